"""One class a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..machine.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from ..metrics import summary
from ..metrics.classification import balanced_thresholds
from ..metrics.probabilistic import SMALLEST_PROBABILITY, binned, entropy_terms
from ..metrics.roc import auc_influence, auc_widening, placements, sides
from ..metrics.validation import checked
from .kind import Labels, Probs, TargetKind, lone_errors

__all__ = ["SingleLabel"]


class SingleLabel(TargetKind):
    """One of K classes a picture; probabilities of a row sum to one.

    The most probable class is the answer, or by `thresholds`, those of all pictures (K,) or a row
    for each, the one whose probability is the largest multiple of its threshold; or by (K * K,),
    the costs of each answer for each class, row by row, the one of the least expected cost.
    """

    name = "single"
    described = "one label a picture"

    def checked(self, probs: ArrayLike, targets: ArrayLike) -> tuple[Probs, Labels]:
        return checked(probs, targets)

    def threshold_counts(self, num_classes: int) -> tuple[int, ...]:
        return num_classes, num_classes**2

    def decide(self, probs: Probs, thresholds: Probs | None = None) -> Labels:
        """Return (N,) the classes that are answered, of equal ones the first."""
        if thresholds is None:
            return probs.argmax(axis=1)
        least, classes = np.asarray(thresholds), probs.shape[1]
        if least.shape == (classes**2,):
            return (probs @ least.reshape(classes, classes)).argmin(axis=1)
        return (probs / least).argmax(axis=1)

    def thresholds(self, probs: Probs, targets: Labels, wanted: str) -> Float64Array | None:
        return balanced_thresholds(probs) if wanted == "balanced_accuracy" else None

    def right(self, preds: Labels, targets: Labels) -> BoolArray:
        return preds == targets

    def losses(self, probs: Probs, targets: Labels) -> Float32Array:
        of_target = np.take_along_axis(probs, targets[:, None], axis=1)[:, 0]
        return np.abs(np.log(of_target.clip(SMALLEST_PROBABILITY, 1.0)))  # 0 of 1, and not -0

    def calibration_error(
        self, probs: Probs, targets: Labels, preds: Labels | None = None
    ) -> float:
        preds = self.decide(probs) if preds is None else preds
        sure = np.take_along_axis(probs, preds[:, None], axis=1)[:, 0]
        return binned(sure.astype(np.float64), preds == targets).calibration_error

    def constant(self, targets: Labels) -> float:
        return float(np.bincount(targets).max() / len(targets))

    def baseline(self, measure: str, probs: Probs, targets: Labels) -> float | None:
        if measure == "accuracy":
            return self.constant(targets)
        if measure == "log_loss":  # of the frequencies themselves, Shannon's entropy
            return float(entropy_terms(np.bincount(targets) / len(targets)).sum())
        if measure == "auc":  # of equal probabilities for all pictures
            return 0.5
        if measure not in ("balanced_accuracy", "macro_f1"):
            return None
        preds = np.full_like(targets, np.bincount(targets).argmax())
        return float(self.scores(measure, probs, preds, targets).mean(dtype=np.float64))

    def scores(
        self,
        measure: str,
        probs: Probs,
        preds: Labels,
        targets: Labels,
        groups: Int64Array | None = None,
    ) -> Float32Array:
        if measure == "accuracy":
            return (preds == targets).astype(np.float32)
        if measure == "log_loss":
            return (-self.losses(probs, targets)).astype(np.float32)
        if measure == "auc":
            return _auc(probs, targets, groups).astype(np.float32)
        classes = probs.shape[1]
        right = preds == targets
        if measure == "balanced_accuracy":
            return _mean_of_classes(right, targets, classes, groups).astype(np.float32)
        of_targets = np.bincount(targets, minlength=classes) / len(targets)
        hits = np.bincount(targets[right], minlength=classes) / len(targets)
        if measure == "macro_f1":
            of_preds = np.bincount(preds, minlength=classes) / len(targets)
            return _macro_f1(right, preds, targets, of_targets + of_preds, hits)
        raise self.no_such(measure)

    def _metrics(
        self, probs: Probs, targets: Labels, preds: Labels, class_names: Sequence[str]
    ) -> dict[str, float]:
        return summary.scalar_metrics(probs, targets, class_names, preds)


def _auc(probs: Probs, targets: Labels, groups: Int64Array | None) -> Float64Array:
    """Return the mean AUC of the classes plus each picture's influence on it.

    A picture stands among those of its class, where it is held against the others, and in the rest
    that each other class is held against.

    Raises:
        ValueError: all pictures are of one class.
    """
    count, classes = probs.shape
    own, rest, present = np.zeros(count), np.zeros(count), 0
    for _, scores, positive in sides(probs, targets):
        places = placements(scores, positive)
        wider = auc_widening(places, positive, groups)
        auc = places[positive].mean()
        own[positive] = auc + wider * (places[positive] - auc)
        rest[~positive] += wider * auc_influence(places, positive, groups)[~positive]
        present += 1
    if not present:
        raise ValueError("All pictures are of one class, so that there is no AUC.")
    found = _mean_of_classes(own, targets, classes, groups)
    if classes > 2:
        return found + rest / present
    # The rest of one class is the other: as far as that moves its own AUC, it moves both.
    mean = found.mean()
    return mean + 2 * (found - mean)


def _mean_of_classes(
    figures: NDArray[Any], targets: Labels, classes: int, groups: Int64Array | None
) -> Float64Array:
    """Return the mean of the classes' mean figures plus each picture's influence on it.

    Of right answers it is the mean recall. The variance of a class's mean is that of an unbiased
    estimate, which divides by one less than the groups that a class has, or its pictures: with few
    that is most of it. The pictures of a class in a group have equal parts of its influence.

    Args:
        figures, targets: (N,).
        classes: K.
        groups: (N,) of pictures that go together; None where each stands for itself.
    """
    of, units, pictures = _units(targets, groups)
    count, sizes = len(of), np.bincount(targets, minlength=classes)
    numbers = np.bincount(of, minlength=classes)
    present, lone = numbers > 0, numbers == 1
    means = np.bincount(targets, figures, minlength=classes) / np.maximum(sizes, 1)
    sums = np.bincount(units, figures, minlength=count)
    weights = count / np.maximum(sizes, 1) * np.sqrt(numbers / np.maximum(numbers - 1, 1))
    influence = (sums - pictures * means[of]) * weights[of]
    if lone.any():
        deviations: Float64Array = sums / pictures - np.where(lone, means[lone].mean(), means)[of]
        influence = lone_errors(
            influence, deviations, float(deviations @ deviations), numbers[present], means[lone]
        )
    each = (influence / pictures)[units] * (len(targets) / count)
    return means[present].mean() + each / present.sum()


def _units(targets: Labels, groups: Int64Array | None) -> tuple[Labels, Int64Array, Int64Array]:
    """Return what a class has in each group: (U,) classes, (N,) numbers, (U,) pictures."""
    if groups is None:
        count = len(targets)
        return targets, np.arange(count), np.ones(count, np.int64)
    group = np.unique(groups, return_inverse=True)[1].reshape(-1)
    codes = targets.astype(np.int64) * (int(group.max()) + 1) + group
    _, first, units, pictures = np.unique(
        codes, return_index=True, return_inverse=True, return_counts=True
    )
    return targets[first], units.reshape(-1), pictures


def _macro_f1(
    right: BoolArray, preds: Labels, targets: Labels, sizes: Float64Array, hits: Float64Array
) -> Float32Array:
    """Return the mean F1 plus each picture's influence on it.

    The F1 of a class that one picture has varies with whether that is found, as others are.

    Args:
        right, preds, targets: (N,).
        sizes: (K,) share of the pictures that are of a class plus that predicted as it.
        hits: (K,) share of the pictures that are of a class and predicted as it.
    """
    known = sizes > 0
    f1 = np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=known)
    weight = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=known)
    influence = 2 * right * weight[targets] - (f1 * weight)[targets] - (f1 * weight)[preds]
    counts = np.bincount(targets, minlength=len(sizes))
    if (lone := counts == 1).any():
        recall = len(targets) * hits / np.maximum(counts, 1)
        deviations: Float64Array = right - np.where(lone, recall[lone].mean(), recall)[targets]
        # Whether its picture is found moves an F1 by so much, beside as many false answers.
        false = len(targets) * (sizes - hits)[lone] - 1
        reach = float(np.mean((2 / (2 + false)) ** 2))
        squares = reach * float(deviations @ deviations)
        influence = lone_errors(influence, deviations, squares, counts[counts > 0], f1[lone])
    return (f1[known].mean() + influence / known.sum()).astype(np.float32)
