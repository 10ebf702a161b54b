"""Sources of pictures: one file a data set, each with a `load` that returns a `Source`.

A new source is a module with `load(root, cache_dir, download)` and a YAML file in conf/data.
`listing` calls the one that the settings name. Files are listed here, archives extracted and
published sets downloaded; nothing is decoded. Calls storage and the header reader of `decoding`.
"""
