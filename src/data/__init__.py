"""From picture files to batches.

`sources` lists labelled pictures, `decoding` makes arrays of them and stores these in the cache,
`quality` examines them, `splitting` divides them into parts and folds, `loading` gathers batches,
and `augmentation` changes these on the training device. `randomness` makes every draw a function of
what it is for. The settings of a data set come in; a `PictureData` goes out. Calls targets,
records, storage, config and machine.
"""
