"""The classifiers on features, as scikit-learn's estimators that are not fitted yet.

Each function takes the fields of the classifier's settings (src/config/features.py) and, of the
fit, `seed` of every draw, `threads` that may be used, and `pictures` that the smallest fit sees.
"""

# Each import takes a moment, and a fit needs only one.
from __future__ import annotations

from typing import Any

__all__ = [
    "gradient_boosting",
    "knn",
    "linear_svm",
    "logistic",
    "nearest_mean",
    "random_forest",
    "rbf_svm",
    "ridge",
]


def linear_svm(*, strength: float, seed: int, **fit: int) -> Any:
    """Return a linear support vector machine."""
    from sklearn.svm import LinearSVC

    return LinearSVC(C=strength, dual="auto", random_state=seed)


def rbf_svm(
    *, strength: float, gamma: float, exact_up_to: int, components: int, seed: int, **fit: int
) -> Any:
    """Return a support vector machine with a Gaussian kernel."""
    from .rbf import RbfMachine

    return RbfMachine(strength, gamma, exact_up_to, components, seed)


def logistic(*, strength: float, **fit: int) -> Any:
    """Return a logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000)


def ridge(*, strength: float, **fit: int) -> Any:
    """Return a ridge regression on class indicators."""
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier(alpha=1 / strength)


def nearest_mean(*, shrinkage: float, **fit: int) -> Any:
    """Return the classifier of the nearest class mean."""
    from .means import NearestMean

    return NearestMean(shrinkage)


def random_forest(*, trees: int, min_leaf: int, seed: int, threads: int, **fit: int) -> Any:
    """Return a random forest."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        trees, min_samples_leaf=min_leaf, n_jobs=threads, random_state=seed
    )


def gradient_boosting(*, rounds: int, rate: float, leaves: int, seed: int, **fit: int) -> Any:
    """Return gradient boosting over binned features."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=rounds,
        learning_rate=rate,
        max_leaf_nodes=leaves,
        early_stopping=False,
        random_state=seed,
    )


def knn(*, neighbours: int, pictures: int, **fit: int) -> Any:
    """Return the nearest neighbours, weighted by distance."""
    from sklearn.neighbors import KNeighborsClassifier

    # In so many dimensions a tree is slower than a look at all of them.
    count = min(neighbours, pictures)
    return KNeighborsClassifier(count, weights="distance", algorithm="brute")
