"""Features of pictures and the classical classifiers on them.

`descriptors` are pure functions of one picture, one file each; `fusion` applies them to many,
`embedding` is a frozen network as one more, and `feature_table` computes those of a data set, once.
`pipeline`, `calibration` and `heads` fit a classifier, and `classifier` saves it without pickle.
Picture stores come in; probabilities (N, K) go out. Calls data, models, targets and the rooms below
them.
"""
