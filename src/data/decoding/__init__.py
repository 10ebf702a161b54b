"""From a picture file to an array: `decode` one picture, `opening` all of a data set.

A `Source` and settings come in; a `PictureStore` goes out, whose array is decoded once for every
size and memory-mapped from the cache. `picture_files` reads headers and says why a file is refused;
`format_choice` chooses the size, the channels or bands, and (`depth`) black and white of pixels of
more than 8 bits. Calls `sources`, the audit of `quality`, and storage.
"""
