"""A trained model that is taken away from its checkout: bundles, predictors, exported variants.

In: a network, classifier or ensemble with its metadata. Out: a bundle, which is a folder with the
weights, the metadata and the modules that predict, and which MLflow serves; and a `Predictor`,
which labels picture files with such a model, and judges its answers where the bundle carries a
calibration. A bundle ships only the modules that `bundled_code` lists.
Calls `training`, `features`, `data`, `models`, `ensembles`, `statistics` and the rooms below them;
knows no run.
"""
