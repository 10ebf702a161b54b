"""Features of pictures and the classical classifiers on them.

Descriptors are pure functions of one picture, one file each; `fusion` puts them one after another,
`table` computes those of a whole data set in parallel and keeps them by content; `classifiers`,
`selection`, `scaling` and `calibration` make a model of them, which `stored` writes without pickle.
"""
