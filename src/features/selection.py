"""Feature selection by a score of each feature."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ..machine.arrays import Float32Array, Float64Array, Int64Array

__all__ = ["KeepBest"]

# Some criteria look at each pair of feature and class for seconds; more pictures hardly change
# their order.
_LOOKED_AT = 5_000


class KeepBest(TransformerMixin, BaseEstimator):
    """A transformer that keeps the features with the highest scores.

    Args:
        criterion: "variance"; "anova", the F value between classes; "mutual_information" with the
            class (Kraskov et al. 2004); or "l1", the weight in a linear machine with an L1 penalty.
        keep: how many; all where there are fewer.
        seed: of what is drawn.

    Attributes:
        kept_: (k,) int64, ascending.
    """

    def __init__(self, criterion: str = "variance", keep: int = 1, seed: int = 0) -> None:
        self.criterion = criterion
        self.keep = keep
        self.seed = seed

    def fit(self, features: Float32Array, targets: Int64Array) -> Self:
        """Fit to features (N, D) and targets (N,); an unknown criterion is a ValueError."""
        rng = np.random.default_rng(self.seed)
        some = np.sort(rng.permutation(len(features))[:_LOOKED_AT])
        scores = self._scores(features[some], targets[some])
        best = np.argsort(-np.nan_to_num(scores, nan=-1.0), kind="stable")[: self.keep]
        self.kept_ = np.sort(best)
        return self

    def transform(self, features: Float32Array) -> Float32Array:
        """Return the kept features (N, k) of features (N, D)."""
        return features[:, self.kept_]

    def _scores(self, features: Float32Array, targets: Int64Array) -> Float64Array:
        scores: Float64Array
        match self.criterion:
            case "variance":
                scores = features.var(axis=0, dtype=np.float64)
            case "anova":
                from sklearn.feature_selection import f_classif

                with np.errstate(all="ignore"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of features that never vary
                    scores = f_classif(features, targets)[0]
            case "mutual_information":
                if np.bincount(targets).max() < 2:  # it asks for neighbours of the same class
                    return np.zeros(features.shape[1])
                from sklearn.feature_selection import mutual_info_classif

                scores = mutual_info_classif(features, targets, random_state=self.seed)
            case "l1":
                from sklearn.svm import LinearSVC

                machine: Any = LinearSVC(penalty="l1", dual=False, random_state=self.seed)
                scores = np.abs(machine.fit(features, targets).coef_).max(axis=0)
            case _:
                raise ValueError(f"there is no criterion {self.criterion!r}")
        return scores
