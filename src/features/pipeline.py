"""From the settings of a classical model to a scikit-learn pipeline, not fitted yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Normalizer

from src.config.features import ClassicalSettings
from src.features.means import NearestMean
from src.features.rbf import RbfMachine
from src.features.scaling import BlockScaler, PartWhitening
from src.features.selection import KeepBest

__all__ = ["make_pipeline"]


def make_pipeline(
    settings: ClassicalSettings, sizes: Sequence[int], *, pictures: int, seed: int, threads: int
) -> Pipeline:
    """Return a pipeline of scaling, selection, normalisation and classifier, not fitted yet.

    Args:
        settings: what to use.
        sizes: features of each descriptor, D in all.
        pictures: that the smallest fit will see.
        seed: of every draw.
        threads: that a classifier may use.
    """
    steps: list[tuple[str, Any]] = [
        ("scale", BlockScaler(list(sizes), each=settings.scaling == "features"))
    ]
    keep = min(settings.keep, sum(sizes))
    if settings.selection == "pca":
        steps.append(("select", PCA(min(keep, pictures), random_state=seed)))
        if settings.whitening > 0:
            steps.append(("whiten", PartWhitening(settings.whitening)))
    elif settings.selection != "none":
        steps.append(("select", KeepBest(settings.selection, keep, seed)))
    if settings.normalise == "rows":
        steps.append(("normalise", Normalizer()))
    return Pipeline([*steps, ("classify", _classifier(settings, pictures, seed, threads))])


def _classifier(settings: ClassicalSettings, pictures: int, seed: int, threads: int) -> Any:
    # Each import takes a moment, and only one is needed.
    match settings.classifier:
        case "linear_svm":
            from sklearn.svm import LinearSVC

            return LinearSVC(C=settings.linear_svm.strength, dual="auto", random_state=seed)
        case "rbf_svm":
            rbf = settings.rbf_svm
            return RbfMachine(rbf.strength, rbf.gamma, rbf.exact_up_to, rbf.components, seed)
        case "logistic":
            from sklearn.linear_model import LogisticRegression

            return LogisticRegression(C=settings.logistic.strength, max_iter=1000)
        case "ridge":
            from sklearn.linear_model import RidgeClassifier

            return RidgeClassifier(alpha=1 / settings.ridge.strength)
        case "nearest_mean":
            return NearestMean(settings.nearest_mean.shrinkage)
        case "random_forest":
            from sklearn.ensemble import RandomForestClassifier

            forest = settings.random_forest
            return RandomForestClassifier(
                forest.trees, min_samples_leaf=forest.min_leaf, n_jobs=threads, random_state=seed
            )
        case "gradient_boosting":
            from sklearn.ensemble import HistGradientBoostingClassifier

            boosting = settings.gradient_boosting
            return HistGradientBoostingClassifier(
                max_iter=boosting.rounds,
                learning_rate=boosting.rate,
                max_leaf_nodes=boosting.leaves,
                early_stopping=False,
                random_state=seed,
            )
        case _:
            from sklearn.neighbors import KNeighborsClassifier

            # In so many dimensions a tree is slower than brute force.
            count = min(settings.knn.neighbours, pictures)
            return KNeighborsClassifier(count, weights="distance", algorithm="brute")
