"""Calibrated classifiers on features: a fitted pipeline whose scores become probabilities."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax

from ..machine.arrays import Float32Array, Float64Array, Int64Array
from ..targets.labels import Labels, memberships

__all__ = [
    "ENOUGH_UNSEEN",
    "CalibratedModel",
    "Calibration",
    "folds_of",
    "held_together",
    "is_enough",
    "log_votes",
    "of_all_classes",
    "scores_of",
]

# Added to the share of votes of each class, some of which are 0, before the logarithm.
_LEAST_VOTE = 1e-3
# Scores of this many unseen pictures determine slope and shifts well enough: one fold gives them,
# and the classifier is not fitted again for each of the others.
ENOUGH_UNSEEN = 5_000


@dataclass(frozen=True, eq=False)
class Calibration:
    """softmax(slope * scores + shift): temperature scaling with a bias a class.

    Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), with the biases of
    Alexandari et al., "Maximum Likelihood With Bias-Corrected Calibration is Hard-To-Beat at Label
    Shift Adaptation" (ICML 2020).

    scikit-learn's (`CalibratedClassifierCV(method="temperature")`, since 1.8) fits the slope alone.
    The biases matter where classes differ in size: on digits thinned down to a tenth in the last
    class the log-loss is 0.19 against 0.24 (ridge) and 0.13 against 0.16 (forest); on all digits it
    is the same within 0.003. Besides, it wraps an estimator, where scores of many heads come from
    one decomposition, has no prior, and refuses a class with fewer pictures than folds.
    """

    slope: float  # above 0, so that within a class the order of the pictures stays
    shift: Float64Array  # (K,) which sum to 0

    @classmethod
    def fit(cls, scores: NDArray[np.floating], targets: Int64Array) -> Self:
        """Return the calibration under which the targets are most likely.

        Args:
            scores: (N, K) of pictures that the classifier was not fitted to.
            targets: (N,) in [0, K).
        """
        scores = np.asarray(scores, np.float64)
        count, classes = scores.shape
        spread = float(scores.std())
        unit = spread if spread > 1e-12 else 1.0  # of scores that say nothing, no huge slope
        rows = np.arange(count)

        def loss(values: Float64Array) -> tuple[float, Float64Array]:
            slope, shift = np.exp(values[0]) / unit, values[1:]
            errors = slope * scores + shift
            errors -= errors.max(axis=1, keepdims=True)
            right = errors[rows, targets]
            np.exp(errors, out=errors)
            total = errors.sum(axis=1)
            logs = right - np.log(total)
            errors /= total[:, None]
            errors[rows, targets] -= 1.0
            # A standard normal prior, which a hundred pictures outweigh, keeps what separates
            # perfectly, or was never seen, finite.
            by_slope = np.einsum("ik,ik->", errors, scores) * slope
            gradient = np.concatenate([[by_slope], errors.sum(axis=0)])
            return (
                float(0.5 * values @ values - logs.sum()) / count,
                (gradient + values) / count,
            )

        found = minimize(loss, np.zeros(classes + 1), jac=True, method="L-BFGS-B").x
        shift = found[1:] - found[1:].mean()
        return cls(float(np.exp(found[0]) / unit), shift)

    def __call__(self, scores: NDArray[np.floating]) -> Float32Array:
        """Probabilities (N, K) of scores (N, K)."""
        logits = self.slope * np.asarray(scores, np.float64) + self.shift
        return softmax(logits, axis=1).astype(np.float32)


def log_votes(votes: NDArray[np.floating]) -> Float64Array:
    """Return scores (N, K) of shares of votes (N, K) in [0, 1], which may be 0."""
    return np.log((votes + _LEAST_VOTE) / (1 + votes.shape[1] * _LEAST_VOTE))


@dataclass(frozen=True, eq=False)
class CalibratedModel:
    """Features (N, D) to probabilities (N, K).

    A class that was not there to learn has probability 0.
    """

    pipeline: Any  # scikit-learn's, fitted to all training pictures
    calibration: Calibration  # of its scores
    classes: Int64Array  # (K',) ascending: the classes that were there to learn
    num_classes: int  # K

    @classmethod
    def fit(
        cls,
        make: Callable[[int], Any],
        features: Float32Array,
        targets: Int64Array,
        contents: NDArray[np.generic],
        *,
        num_classes: int,
        folds: int,
        seed: int,
    ) -> Self:
        """Fit to all pictures, and the calibration to the scores of held-out folds.

        A fold that leaves a single class to learn says nothing of scores, and is left out. Where
        all do, the calibration is by the scores of what the model was fitted to.

        Args:
            make: a fresh pipeline, given the number of pictures that it will be fitted to.
            features: (N, D) of the training part.
            targets: (N,) in [0, num_classes), of at least two classes.
            contents: (N,) equal where pictures share a fold, as of `held_together`.
            num_classes, folds, seed: K; at least 2; of the folds.
        """
        classes, labels = np.unique(targets, return_inverse=True)
        pipeline = make(len(features)).fit(features, labels)
        scores, held_out = [], []
        for train, held in folds_of(labels, contents, folds, seed):
            if (labels[train] == labels[train[0]]).all():
                continue
            fold = make(len(train)).fit(features[train], labels[train])
            scores.append(scores_of(fold, features[held], len(classes)))
            held_out.append(labels[held])
            if is_enough(held_out, len(classes)):
                break
        if not scores:
            scores, held_out = [scores_of(pipeline, features, len(classes))], [labels]
        calibration = Calibration.fit(np.concatenate(scores), np.concatenate(held_out))
        return cls(pipeline, calibration, classes, num_classes)

    def plain(self) -> dict[str, Any]:
        """Return what `restored` takes beside the classes, for a file of skops' format."""
        own = self.calibration
        return {"pipeline": self.pipeline, "slope": own.slope, "shift": own.shift}

    @classmethod
    def restored(cls, plain: Mapping[str, Any], classes: Int64Array, num_classes: int) -> Self:
        """Return the model of these values.

        Raises:
            KeyError, TypeError, ValueError: they are not those of a model.
        """
        calibration = Calibration(float(plain["slope"]), np.asarray(plain["shift"]))
        return cls(plain["pipeline"], calibration, classes, num_classes)

    def probabilities(self, features: Float32Array) -> Float32Array:
        """Return (N, K) of features (N, D); rows sum to 1, or are NaN where a feature is NaN."""
        probs = np.zeros((len(features), self.num_classes), np.float32)
        if not np.isfinite(features).all():  # scikit-learn would end, or take NaN for missing
            finite = np.isfinite(features).all(axis=1)
            probs[~finite] = np.nan
            probs[finite] = self.probabilities(features[finite])
        elif len(features):
            scores = scores_of(self.pipeline, features, len(self.classes))
            probs[:, self.classes] = self.calibration(scores)
        return probs


def held_together(
    labels: Labels, groups: Int64Array | None, contents: NDArray[np.generic]
) -> Int64Array:
    """Return (N,) codes that are equal for pictures that have to share a fold.

    They are those of one group (of one patient, say): folds that divide it measure how well a
    classifier knows its pictures again, and choose the one that does so best. A group that is the
    only one with a class is divided all the same, into its pictures that differ: else no fold would
    learn the class.

    Args:
        labels: (N,) in [0, K), or label sets (N, K) of 0 and 1.
        groups: (N,) of the pictures; None where each stands for itself.
        contents: (N,) equal where pictures are.
    """
    _, content = np.unique(contents, return_inverse=True)
    if groups is None:
        return content
    group = np.unique(groups, return_inverse=True)[1]
    pictures, classes = memberships(labels)
    pairs = np.unique(np.stack([classes, group[pictures]]), axis=1)
    only = pairs[1, np.bincount(pairs[0])[pairs[0]] == 1]
    return np.where(np.isin(group, only), int(group.max()) + 1 + content, group)


def is_enough(held_out: Sequence[Int64Array], classes: int) -> bool:
    """Return whether labels of held-out folds suffice: many of them, and each class among them.

    Folds of whole groups may lack a class, of which a calibration would learn that it never occurs.

    Args:
        held_out: labels in [0, classes), of at least one fold.
        classes: K.
    """
    if sum(map(len, held_out)) < ENOUGH_UNSEEN:
        return False
    return len(np.unique(np.concatenate(held_out))) == classes


def folds_of(
    labels: Int64Array, contents: NDArray[np.generic], folds: int, seed: int
) -> Iterator[tuple[Int64Array, Int64Array]]:
    """Yield (train, held out) indices: stratified, and with equal pictures on one side.

    Fewer folds where there are fewer pictures that differ; copies of a single one are divided.

    Args:
        labels, contents: (N,) of at least two pictures.
        folds, seed: as of `CalibratedModel.fit`.
    """
    from sklearn.model_selection import StratifiedKFold

    if (contents == contents[0]).all():
        contents = np.arange(len(contents))
    _, first, content = np.unique(contents, return_index=True, return_inverse=True)
    divided = StratifiedKFold(min(folds, len(first)), shuffle=True, random_state=seed)
    strata = labels[first]
    # scikit-learn raises only where every class has fewer pictures than there are folds.
    if np.bincount(strata).max() < divided.n_splits:
        strata = np.zeros_like(strata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with fewer pictures than folds
        parts = list(divided.split(strata, strata))
    for _, held in parts:
        chosen = np.isin(content, held)
        yield np.flatnonzero(~chosen), np.flatnonzero(chosen)


def scores_of(pipeline: Any, features: Float32Array, classes: int) -> Float64Array:
    """Return scores (N, K') of a pipeline whose labels are some of 0 to K' - 1."""
    if hasattr(pipeline, "decision_function"):
        found = np.asarray(pipeline.decision_function(features), np.float64)
        if found.ndim == 1:
            found = np.stack([-found, found], axis=1) / 2
    else:
        found = log_votes(np.asarray(pipeline.predict_proba(features), np.float64))
    return of_all_classes(found, np.asarray(pipeline.classes_, np.int64), classes)


def of_all_classes(found: Float64Array, known: Int64Array, classes: int) -> Float64Array:
    """Return scores (N, classes) from those (N, K') of the known; others get the least of these."""
    if len(known) == classes:
        return found
    scores = np.repeat(found.min(axis=1, keepdims=True), classes, axis=1)
    scores[:, known] = found
    return scores
