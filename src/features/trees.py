"""Whether the trees out of a file are trees: scikit-learn walks them without looking."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["check_trees"]


def check_trees(classifier: Any) -> None:
    """Make sure that every walk down a tree ends, and stays within its arrays.

    Args:
        classifier: a random forest or gradient boosting of scikit-learn; others have no trees.

    Raises:
        ValueError: a branch leads back or outside, or asks for a feature that there is not.
    """
    count = getattr(classifier, "n_features_in_", 0)  # what a prediction insists on
    for estimator in getattr(classifier, "estimators_", ()):
        tree = estimator.tree_
        inner = tree.children_left != -1
        _check(inner, tree.children_left, tree.children_right, tree.feature, count)
    for predictors in getattr(classifier, "_predictors", ()):
        for predictor in predictors:
            nodes = predictor.nodes
            inner = nodes["is_leaf"] == 0
            if nodes["is_categorical"].any():
                raise ValueError("a tree asks for categories, which features do not have")
            _check(inner, nodes["left"], nodes["right"], nodes["feature_idx"], count)


def _check(
    inner: NDArray[np.bool_],
    left: NDArray[np.integer],
    right: NDArray[np.integer],
    feature: NDArray[np.integer],
    features: int,
) -> None:
    own = np.flatnonzero(inner)
    for child in (left[inner].astype(np.int64), right[inner].astype(np.int64)):
        # Children come after their parents, in the order in which trees grow.
        if not ((child > own) & (child < len(inner))).all():
            raise ValueError("a branch of a tree leads nowhere")
    asked = feature[inner].astype(np.int64)
    if not ((asked >= 0) & (asked < features)).all() or not len(inner):
        raise ValueError("a tree asks for a feature that there is not")
