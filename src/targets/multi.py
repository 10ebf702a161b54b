"""Several labels a picture, or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..machine.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from ..metrics.multilabel import (
    average_precision,
    average_precisions,
    best_thresholds,
    checked_sets,
    f1_scores,
    mean_average_precision,
    micro_f1,
    precision_influence,
    single_precisions,
)
from ..metrics.probabilistic import SMALLEST_PROBABILITY, binned, entropy_terms
from ..metrics.roc import auc_influence, auc_widening, class_aucs, mean_auc, placements, sides
from ..metrics.share_intervals import wilson_interval
from ..metrics.summary import per_class
from .kind import Labels, Probs, TargetKind, lone_errors
from .labels import label_codes

__all__ = ["MultiLabel"]


class MultiLabel(TargetKind):
    """A set of K labels a picture; each label has a probability of its own.

    "accuracy" is the exact match, the share of pictures with all labels right, as scikit-learn's
    `accuracy_score` of label sets.
    """

    name = "multi"
    described = "several labels a picture"
    sets = True

    def checked(self, probs: ArrayLike, targets: ArrayLike) -> tuple[Probs, Labels]:
        return checked_sets(probs, targets)

    def decide(self, probs: Probs, thresholds: Probs | None = None) -> Labels:
        """Return (N, K) uint8: the labels whose probability reaches the threshold."""
        # In double precision: between two neighbouring probabilities single precision has no room.
        least = 0.5 if thresholds is None else np.asarray(thresholds, np.float64)
        return (probs >= least).astype(np.uint8)

    def thresholds(self, probs: Probs, targets: Labels, wanted: str) -> Float64Array | None:
        if wanted not in ("macro_f1", "micro_f1"):
            return None
        return best_thresholds(probs, targets, wanted)

    def confidences(self, probs: Probs) -> Probs:
        return np.maximum(probs, 1 - probs).min(axis=1)

    def uncertainties(self, probs: Probs) -> Probs:
        """Return (N,) in [0, 1], 1 where a label is as probable as not.

        The least sure label counts alone (Brinker, "On Active Learning in Multi-label
        Classification", 2006): by the mean over labels come pictures of which everything is
        uncertain, which taught less (docs/figures.md).
        """
        return 2 * (1 - self.confidences(probs))

    def right(self, preds: Labels, targets: Labels) -> BoolArray:
        return (preds == targets).all(axis=1)

    def losses(self, probs: Probs, targets: Labels) -> Float32Array:
        """Return (N,) the mean binary log-loss over the labels."""
        likelihood = np.where(targets > 0, probs, 1 - probs.astype(np.float64))
        each = np.abs(np.log(likelihood.clip(SMALLEST_PROBABILITY, 1.0)))  # 0 of 1, and not -0
        return each.mean(axis=1).astype(np.float32)

    def calibration_error(
        self, probs: Probs, targets: Labels, preds: Labels | None = None
    ) -> float:
        """Compute that of all labels together, of the probability that each is there."""
        return binned(probs.astype(np.float64).ravel(), targets.ravel() > 0).calibration_error

    def constant(self, targets: Labels) -> float:
        return float(np.bincount(label_codes(targets)).max() / len(targets))

    def baseline(self, measure: str, probs: Probs, targets: Labels) -> float | None:
        shares = targets.mean(axis=0, dtype=np.float64)
        match measure:
            case "accuracy":
                return self.constant(targets)
            case "hamming_loss":
                return float(np.minimum(shares, 1 - shares).mean())
            case "log_loss":
                return float((entropy_terms(shares) + entropy_terms(1 - shares)).mean())
            case "map":  # of equal scores for all pictures
                return float(shares[shares > 0].mean()) if shares.any() else None
            case "auc":  # likewise
                return 0.5
            case "macro_f1":
                chosen = shares > 0
            case "micro_f1":  # the most frequent labels, as many as pay
                order = np.argsort(-shares, kind="stable")
                totals = shares[order].cumsum()
                most = int(np.argmax(totals / (np.arange(1, len(shares) + 1) + shares.sum())))
                chosen = np.isin(np.arange(len(shares)), order[: most + 1])
            case _:
                return None
        preds = np.broadcast_to(chosen, targets.shape).astype(targets.dtype)
        return float(self.scores(measure, probs, preds, targets).mean(dtype=np.float64))

    def scores(
        self,
        measure: str,
        probs: Probs,
        preds: Labels,
        targets: Labels,
        groups: Int64Array | None = None,
    ) -> Float32Array:
        match measure:
            case "accuracy":
                found: Float64Array = self.right(preds, targets).astype(np.float64)
            case "hamming_loss":
                found = -(preds != targets).mean(axis=1)
            case "log_loss":
                found = -self.losses(probs, targets).astype(np.float64)
            case "map":
                found = _map_scores(probs, targets)
            case "auc":
                found = _auc_scores(probs, targets, groups)
            case "macro_f1":
                found = _f1_scores(preds, targets)
            case "micro_f1":
                found = _micro_f1_scores(preds, targets)
            case _:
                raise self.no_such(measure)
        return found.astype(np.float32)

    def _metrics(
        self, probs: Probs, targets: Labels, preds: Labels, class_names: Sequence[str]
    ) -> dict[str, float]:
        """Compute all metrics, with "average_precision/<class>" of up to 20 classes."""
        right = self.right(preds, targets)
        low, high = wilson_interval(int(right.sum()), len(right))
        f1, precisions = f1_scores(preds, targets), average_precisions(probs, targets)
        metrics = {
            "map": mean_average_precision(precisions),
            "macro_f1": float(np.nanmean(f1)) if not np.isnan(f1).all() else 1.0,
            "micro_f1": micro_f1(preds, targets),
            "accuracy": float(right.mean()),
            "accuracy_low": low,
            "accuracy_high": high,
            "hamming_loss": float((preds != targets).mean()),
            "log_loss": float(self.losses(probs, targets).mean(dtype=np.float64)),
            "brier": float(np.square(probs.astype(np.float64) - targets).mean()),
            "calibration_error": self.calibration_error(probs, targets),
        }
        if not np.isnan(auc := mean_auc(class_aucs(probs, targets))):
            metrics["auc"] = auc
        return metrics | per_class("average_precision", class_names, precisions)

    def binary_targets(self, targets: Labels, num_classes: int) -> Int64Array:
        """Return (N, K): each label is a problem of its own."""
        return targets.astype(np.int64)

    def from_binary(self, probs: Float32Array) -> Float32Array:
        return probs


def _map_scores(probs: Probs, targets: Labels) -> Float64Array:
    """Return the mean average precision plus each picture's influence on it."""
    known = np.flatnonzero(targets.any(axis=0))
    influence = np.zeros(len(probs))
    if not len(known):
        return influence
    for k in known:
        influence += precision_influence(probs[:, k], targets[:, k])
    each = np.array([average_precision(probs[:, k], targets[:, k]) for k in known])
    if (targets.sum(axis=0, dtype=np.int64) == 1).any():
        singles = [single_precisions(probs[:, k], targets[:, k]) for k in known]
        influence = _with_lone(influence, targets[:, known], singles, each)
    return each.mean() + influence / len(known)


def _with_lone(
    influence: Float64Array,
    targets: Labels,
    singles: Sequence[Float64Array],
    each: Float64Array,
    reach: float = 1.0,
) -> Float64Array:
    """Return the influence with that of labels that one picture has, by `lone_errors`.

    Args:
        influence: (N,).
        targets: (N, K) of the labels that pictures have.
        singles: K, the figure that each picture of a label alone gives it.
        each: (K,) figures of the labels.
        reach: variance of the figure of a label with one picture, in those of `singles`.
    """
    sizes = targets.sum(axis=0, dtype=np.int64)
    alone = each[sizes == 1]
    if not len(alone):
        return influence
    lone = float(np.mean([own[0] for own, size in zip(singles, sizes, strict=True) if size == 1]))
    deviations, squares = np.zeros(len(targets)), 0.0
    for k, own in enumerate(singles):
        off = own - (lone if sizes[k] == 1 else own.mean())
        deviations[targets[:, k] > 0] += off
        squares += float(off @ off)
    return lone_errors(influence, deviations, reach * squares, sizes, alone)


def _auc_scores(probs: Probs, targets: Labels, groups: Int64Array | None) -> Float64Array:
    """Return the mean AUC of the labels plus each picture's influence on it.

    Raises:
        ValueError: each label is on all pictures or on none.
    """
    influence, rarer, singles, each = np.zeros(len(probs)), [], [], []
    for _, scores, positive in sides(probs, targets):
        places = placements(scores, positive)
        wider = auc_widening(places, positive, groups)
        influence += wider * auc_influence(places, positive, groups)
        # An AUC is that of not having the label as well: one picture alone may be on either side.
        rarer.append(positive if 2 * positive.sum() <= len(positive) else ~positive)
        singles.append(places[rarer[-1]])
        each.append(places[positive].mean())
    if not each:
        raise ValueError("Each label is on all pictures or on none, so that there is no AUC.")
    sets = np.stack(rarer, axis=1).astype(np.uint8)
    influence = _with_lone(influence, sets, singles, np.array(each))
    return np.mean(each) + influence / len(each)


def _f1_scores(preds: Labels, targets: Labels) -> Float64Array:
    """Return the macro F1 plus each picture's influence on it."""
    count = len(preds)
    sizes = (preds.sum(axis=0, dtype=np.int64) + targets.sum(axis=0, dtype=np.int64)) / count
    known, f1 = sizes > 0, f1_scores(preds, targets)
    if not known.any():
        return np.ones(count)
    moves = (
        2.0 * (preds & targets)[:, known]
        - f1[known] * (preds.astype(np.float64) + targets)[:, known]
    )
    influence: Float64Array = (moves / sizes[known]).sum(axis=1)
    had = np.flatnonzero(targets.any(axis=0))
    found_alone = [preds[targets[:, k] > 0, k].astype(np.float64) for k in had]
    # Whether its picture is found moves an F1 by so much, beside as many false answers.
    lone = targets.sum(axis=0, dtype=np.int64) == 1
    false = ((preds > targets) & lone).sum(axis=0, dtype=np.int64)[lone]
    reach = float(np.mean((2 / (2 + false)) ** 2)) if lone.any() else 1.0
    influence = _with_lone(influence, targets[:, had], found_alone, f1[had], reach)
    return np.nanmean(f1) + influence / known.sum()


def _micro_f1_scores(preds: Labels, targets: Labels) -> Float64Array:
    """Return the micro F1 plus each picture's influence on it."""
    figure = micro_f1(preds, targets)
    own = (preds.astype(np.float64) + targets).sum(axis=1)
    hits = (preds & targets).sum(axis=1, dtype=np.float64)
    return figure + (2 * hits - figure * own) / max(own.mean(), 1e-12)
