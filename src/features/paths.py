"""Scores of held-out pictures along paths of one classifier's strengths, with shared work.

All functions take a `View`, features along their principal axes, and yield scores (M, K) float64
of its M held-out pictures for one setting after another. They are on the scale of the scikit-learn
estimators that `make_pipeline` fits: what is calibrated on the one holds for the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from ..machine.arrays import Float32Array, Float64Array, Int64Array
from .calibration import log_votes
from .means import gram
from .rbf import sums_over_opponents

__all__ = [
    "LinearPath",
    "View",
    "mean_scores",
    "neighbour_scores",
    "principal_axes",
    "ridge_scores",
    "svm_scores",
]

# Directions whose variance is below this share of the largest are rounding errors.
_LEAST_VARIANCE = 1e-9
# Of a feature that never varies, as the variances of a view are divided by.
_NO_VARIANCE = 1e-12
# Change of the objective in an iteration, relative to its value, at which it is the last. The value
# is then within some tenths of a per cent of the minimum, and fits take half the time of 1e-5.
_TOLERANCE = 1e-4
_MOST_ITERATIONS = 300


@dataclass(frozen=True, eq=False)
class View:
    """Normalised features along the principal axes of the training pictures."""

    train: Float32Array  # (N, D), centred and without correlations
    held: Float32Array  # (M, D)
    variances: Float64Array  # (D,) of the columns of `train`, above 0
    labels: Int64Array  # (N,) of the training pictures, in [0, K); each class is there
    classes: int  # K, at least 2
    dims: int  # features that there were before those without variance were left out

    @classmethod
    def of(
        cls,
        train: Float32Array,
        held: Float32Array,
        labels: Int64Array,
        classes: int,
        dims: int | None = None,
    ) -> View:
        """Return the view of normalised features (N, D) and (M, D); `dims` is D unless given."""
        mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
        axes, variances = principal_axes(train - mean)
        if not len(variances):  # nothing varies; classifiers take a feature at least
            axes, variances = np.zeros((len(mean), 1), np.float32), np.full(1, _NO_VARIANCE)
        train, held = (train - mean) @ axes, (held - mean) @ axes
        return cls(train, held, variances, labels, classes, dims or len(mean))

    def hits(self) -> Float32Array:
        """Return (N, K) float32, 1 where a picture is of a class."""
        hits = np.zeros((len(self.labels), self.classes), np.float32)
        hits[np.arange(len(self.labels)), self.labels] = 1
        return hits


def principal_axes(centred: Float32Array) -> tuple[Float32Array, Float64Array]:
    """Return the principal axes (D, r) float32 and variances (r,) of centred features (N, D).

    r is at most min(N, D): directions without variance are left out. Axes are orthonormal, their
    variances descend. The smaller of the two Gram matrices is decomposed.
    """
    count, dims = centred.shape
    if dims <= count:
        values, axes = np.linalg.eigh(gram(centred))
    else:
        values, left = np.linalg.eigh(gram(centred.T))
        axes = centred.T @ (left / np.sqrt(np.maximum(values, 1e-30)))
    kept = np.flatnonzero(values > max(_LEAST_VARIANCE * values[-1], 1e-30))[::-1]
    return np.ascontiguousarray(axes[:, kept], np.float32), values[kept] / count


def ridge_scores(view: View, strengths: Sequence[float]) -> Iterator[Float64Array]:
    """Yield scores of `RidgeClassifier(alpha=1 / strength)`: in closed form, for axes separate."""
    wanted = 2 * view.hits() - 1
    offset = wanted.mean(axis=0, dtype=np.float64)
    right = (view.train.T @ wanted).astype(np.float64)
    sums = len(view.labels) * view.variances
    for strength in strengths:
        weights = right / (sums + 1 / strength)[:, None]
        scores = view.held @ weights.astype(np.float32) + offset
        yield scores / 2 if view.classes == 2 else scores


def mean_scores(view: View, shrinkages: Sequence[float]) -> Iterator[Float64Array]:
    """Yield scores of `NearestMean(shrinkage)`.

    The covariance within classes is that of all pictures, here a diagonal, less that between the K
    classes, so its inverse takes that of a (K, K) matrix (Woodbury's identity).
    """
    hits = view.hits()
    sizes = hits.sum(axis=0, dtype=np.float64)
    means = (hits.T @ view.train) / sizes[:, None]
    shares = sizes / sizes.sum()
    between = means * np.sqrt(shares)[:, None]
    within = float(view.variances.sum() - np.square(between).sum()) / view.dims
    centred = means - means.mean(axis=0)
    for shrinkage in shrinkages:
        kept = 1 - shrinkage
        diagonal = kept * view.variances + shrinkage * max(within, 1e-12)
        weights = centred / diagonal
        if kept > 0:
            scaled = between / diagonal
            core = np.eye(view.classes) - kept * scaled @ between.T
            weights += kept * (weights @ between.T) @ np.linalg.solve(core, scaled)
        offsets = -0.5 * (weights * (means + means.mean(axis=0))).sum(axis=1)
        yield view.held @ weights.T.astype(np.float32) + offsets


def neighbour_scores(view: View, counts: Sequence[int]) -> Iterator[Float64Array]:
    """Yield log shares of the votes of the nearest k pictures, each weighing 1 / distance."""
    from sklearn.neighbors import NearestNeighbors

    most = min(max(counts), len(view.train))
    search = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(view.train)
    distances, nearest = search.kneighbors(view.held)
    with np.errstate(divide="ignore"):
        weights = 1 / distances.astype(np.float64)
    # As scikit-learn has it: where there are equal pictures, they alone vote.
    equal = np.isinf(weights)
    weights = np.where(equal.any(axis=1, keepdims=True), equal, weights)
    labels = view.labels[nearest]
    for count in counts:
        votes = np.zeros((len(view.held), view.classes))
        rows = np.repeat(np.arange(len(votes)), min(count, most))
        np.add.at(votes, (rows, labels[:, :count].ravel()), weights[:, :count].ravel())
        votes /= votes.sum(axis=1, keepdims=True)
        yield log_votes(votes)


def svm_scores(view: View, pairs: Sequence[tuple[float, float]]) -> Iterator[Float64Array]:
    """Yield scores of an exact `RbfMachine(strength, gamma)` for pairs (gamma, strength).

    Distances are computed once, and a kernel once for neighbouring pairs with the same gamma. Takes
    memory for (N, N + M) doubles.
    """
    from sklearn.metrics.pairwise import euclidean_distances
    from sklearn.svm import SVC

    own = euclidean_distances(view.train, squared=True)
    others = euclidean_distances(view.held, view.train, squared=True)
    variance = max(float(view.variances.sum()), 1e-12)
    last = -1.0
    for gamma, strength in pairs:
        if gamma != last:
            kernel = np.exp(-gamma / variance * own).astype(np.float64)
            held = np.exp(-gamma / variance * others).astype(np.float64)
            last = gamma
        machine = SVC(C=strength, kernel="precomputed", decision_function_shape="ovo")
        margins = machine.fit(kernel, view.labels).decision_function(held)
        if view.classes == 2:
            yield np.stack([-margins, margins], axis=1) / 2
        else:
            yield sums_over_opponents(margins, view.classes)


@dataclass(frozen=True, eq=False)
class LinearPath:
    """Minimisers of a regularised mean loss, one after another along a path of strengths.

    The objective of strength C over weights W (D, K) and intercepts b (K,) is
    mean(loss) + |W|^2 / (2 C N): that of scikit-learn's LogisticRegression, or of LinearSVC without
    its penalty of the intercept, divided by C N. L-BFGS minimises it from the solution before, in
    single precision but for the sums, with weights scaled by the curvature along their axis.

    Attributes:
        view: the features.
        loss: "logistic", the multinomial cross-entropy (of two classes, that of one logit); or
            "squared_hinge", each class against the rest.
        tolerance: relative change of the objective at which an iteration is the last.
    """

    view: View
    loss: str = "logistic"
    tolerance: float = _TOLERANCE

    def scores(self, strengths: Sequence[float]) -> Iterator[Float64Array]:
        """Yield scores of the held-out pictures for each strength."""
        for weights, intercepts in self.solutions(strengths):
            scores = self.view.held @ weights.astype(np.float32) + intercepts
            halved = self.view.classes == 2 and self.loss != "logistic"
            yield scores / 2 if halved else scores

    def solutions(self, strengths: Sequence[float]) -> Iterator[tuple[Float64Array, Float64Array]]:
        """Yield weights (D, K) and intercepts (K,) of each strength, best in ascending order."""
        count, dims = self.view.train.shape
        hits = self.view.hits()
        solution = np.zeros((dims + 1, self.view.classes))
        curvature = 2.0
        if self.loss == "logistic":
            solution[-1] = np.log(hits.mean(axis=0, dtype=np.float64))
            curvature = 1 / self.view.classes
        for strength in strengths:
            penalty = 1 / (strength * count)
            if self.loss == "logistic" and self.view.classes == 2:
                penalty *= 2  # two opposite columns have half the squares of the one logit's
            solution, curvature = self._solved(hits, penalty, curvature, solution)
            yield solution[:-1], solution[-1]

    def _solved(
        self, hits: Float32Array, penalty: float, curvature: float, start: Float64Array
    ) -> tuple[Float64Array, float]:
        """Return the solution (D + 1, K), its last row the intercepts, and the curvature there."""
        variances = np.append(curvature * self.view.variances + penalty, curvature)
        scale = 1 / np.sqrt(variances)[:, None]
        last = curvature

        def objective(values: Float64Array) -> tuple[float, Float64Array]:
            nonlocal last
            point = values.reshape(start.shape) * scale
            value, slopes, last = self._loss(point.astype(np.float32), hits)
            gradient = np.empty_like(point)
            gradient[:-1] = self.view.train.T @ slopes
            gradient[:-1] += penalty * point[:-1]
            gradient[-1] = slopes.sum(axis=0, dtype=np.float64)
            value += 0.5 * penalty * float(np.square(point[:-1]).sum())
            return value, (gradient * scale).ravel()

        options = {"maxiter": _MOST_ITERATIONS, "ftol": self.tolerance, "gtol": 1e-7}
        first = (start / scale).ravel()
        found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
        return found.x.reshape(start.shape) * scale, max(last, 1e-3 / self.view.classes)

    def _loss(self, point: Float32Array, hits: Float32Array) -> tuple[float, Float32Array, float]:
        """Return the mean loss, its slopes (N, K) by score, and its mean curvature by score."""
        scores = self.view.train @ point[:-1]
        scores += point[-1]
        count = len(scores)
        if self.loss == "logistic":
            right = scores[np.arange(count), self.view.labels]
            top = scores.max(axis=1)
            scores -= top[:, None]
            np.exp(scores, out=scores)
            total = scores.sum(axis=1)
            scores /= total[:, None]
            value = (np.log(total) + top - right).mean(dtype=np.float64)
            spread = (1 - np.square(scores).sum(axis=1)).mean(dtype=np.float64)
            curvature = spread / self.view.classes
            scores -= hits
        else:
            signs = 2 * hits - 1
            short = np.maximum(1 - signs * scores, 0)
            value = np.square(short).sum(axis=1).mean(dtype=np.float64)
            curvature = 2 * (short > 0).mean()
            scores = -2 * signs * short
        scores /= count
        return float(value), scores, float(curvature)
