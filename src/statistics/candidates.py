"""Predictions reduced to scores by a measure, and the candidates that runs are repeats of.

A measure gives one score a picture whose mean is the figure. Accuracy, log-loss and costs are means
over pictures. Others, such as balanced accuracy, F1, AUC, mean average precision and kappa, are
not; there a picture's score is the figure plus its influence on it (Hampel, "The Influence Curve
and Its Role in Robust Estimation", JASA 1974), so that variances, covariances and resampled errors
of the figure are those of a mean, to first order. The scores of each kind of targets are in
`src.targets`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import BoolArray, Float32Array, Float64Array, Int64Array, IntegerArray
from ..metrics.registry import RANKING
from ..records.run import Predictions
from ..targets import TargetKind, kind_of
from ..targets.labels import has_class, label_counts

__all__ = ["Candidate", "Measure", "MeasuredRun", "Scale", "candidates_of"]


@dataclass(frozen=True, eq=False)
class Measure:
    """A measure of predictions.

    Attributes:
        name: a key of `RANKING`; each kind of targets has some of them.
        costs: (K, K) cost of each prediction (column) for each target (row), for "cost" alone.

    Raises:
        ValueError: another name, or costs without "cost" or the other way round.
    """

    name: str = "accuracy"
    costs: Float64Array | None = None

    def __post_init__(self) -> None:
        if self.name not in RANKING:
            raise ValueError(f"The measure is {self.name!r}: it must be of {', '.join(RANKING)}.")
        if (self.costs is not None) != (self.name == "cost"):
            raise ValueError("A cost matrix goes with the measure cost, and with no other.")

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest figure that there can be."""
        if self.costs is not None:
            least, greatest = self.costs.min(), self.costs.max()  # as scores are rounded
            return float(np.float32(least)), float(np.float32(greatest))
        return RANKING[self.name].bounds

    def scores(
        self,
        probs: NDArray[np.floating],
        preds: IntegerArray,
        targets: IntegerArray,
        kind: TargetKind | None = None,
        groups: Int64Array | None = None,
    ) -> Float32Array:
        """Return (N,) scores, higher for better: their mean is the figure, or minus a cost.

        Args:
            probs: (N, K) probabilities.
            preds, targets: (N,) classes, or of label sets (N, K).
            kind: of the targets; None for one class a picture.
            groups: (N,) of pictures that go together; None where each stands for itself.

        Raises:
            ValueError: the kind has no such measure, or a cost matrix for another number of
                classes.
        """
        kind = kind or kind_of("single")
        if self.costs is None or self.name not in kind.measures:
            return kind.scores(self.name, probs, preds, targets, groups)
        classes = probs.shape[1]
        if self.costs.shape != (classes, classes):
            raise ValueError(
                f"The cost matrix is {' x '.join(map(str, self.costs.shape))}, and there are "
                f"{classes} classes: it must have a row and a column for each."
            )
        return (-self.costs[targets, preds]).astype(np.float32)

    def baseline(
        self, probs: NDArray[np.floating], targets: IntegerArray, kind: TargetKind
    ) -> float | None:
        """Return the figure of the best answer that is the same everywhere; None if not known."""
        if self.costs is None or self.name not in kind.measures:
            return kind.baseline(self.name, probs, targets)
        return float(self.costs[targets].mean(axis=0).min())

    def lone(
        self,
        probs: NDArray[np.floating],
        targets: IntegerArray,
        groups: Int64Array | None = None,
    ) -> int:
        """Return how many classes one picture has, or group, of a measure that is their mean.

        For AUC also labels that one picture, or group, does not have. Of any other measure 0.
        """
        if not RANKING[self.name].over_classes:
            return 0
        classes = np.shape(probs)[-1] if targets.ndim == 1 else targets.shape[1]
        counts = label_counts(targets, classes)
        most = len(targets) / 2 if self.name == "auc" and targets.ndim == 2 else len(targets)
        if groups is None:
            return int((np.where(counts > most, len(targets) - counts, counts) == 1).sum())
        having = (has_class(targets, label) != (counts[label] > most) for label in range(classes))
        return sum(len(np.unique(groups[own])) == 1 for own in having)


@dataclass(frozen=True)
class Scale:
    """What is known of the figures by a measure on some pictures before any model answers.

    Attributes:
        measure: a key of `src.metrics.registry.RANKING`.
        constant, baseline: accuracy, and figure of the measure, of the best answer that is the same
            everywhere; the latter None where it is not known.
        lone: number of classes that one picture, or group, has, where the measure is their mean;
            else 0.
        ends: the least and the greatest figure that there can be.
    """

    measure: str = "accuracy"
    constant: float = 0.0
    baseline: float | None = None
    lone: int = 0
    ends: tuple[float, float] = (-math.inf, math.inf)

    @property
    def sign(self) -> int:
        """1 where higher figures are better, else -1: figures times it are scores."""
        return 1 if RANKING[self.measure].higher_is_better else -1

    @property
    def lowest(self) -> float | None:
        """The worst figure that there can be, where the best is 1; None of a loss."""
        return RANKING[self.measure].worst


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuredRun:
    """The predictions of one trained network, reduced to what comparing needs.

    A thousand of them with 10,000 pictures each take 50 MB.

    Attributes:
        run_id: of the run it comes from.
        configuration: the same for two runs that differ in nothing but the seed of the training.
        name: of the configuration.
        seed: of the training.
        part: what was predicted: "val", "out-of-fold" or "test".
        split_fingerprint: of the split that the run was trained on, None where it is not known.
        pictures, labels: what the network was measured on, each as a hash.
        groups: (N,) int64 of the pictures, by ascending sample id: those of one number go
            together; None where each picture stands for itself, or groups were not kept.
        copies: whether groups are of pictures that are alike, and none was named by the user.
        right: (N,) bool, in the same order; of label sets, whether all labels are.
        scores: (N,) float32 by the measure, in the same order; None for accuracy, where they are
            `right`.
        losses: (N,) float32, the log-loss of each picture in nats, in the same order.
        calibration_error: in [0, 1].
        cost: per use, such as the latency in milliseconds; None where not measured.
        scale: of the measure on these pictures.
    """

    run_id: str
    configuration: str
    name: str
    seed: int
    part: str
    split_fingerprint: str | None
    pictures: str
    labels: str
    right: BoolArray
    losses: Float32Array
    calibration_error: float
    cost: float | None = None
    groups: Int64Array | None = None
    copies: bool = False
    scores: Float32Array | None = None
    scale: Scale = Scale()

    @classmethod
    def of(
        cls,
        predictions: Predictions,
        *,
        run_id: str,
        configuration: str,
        name: str,
        seed: int,
        part: str,
        split_fingerprint: str | None,
        cost: float | None = None,
        measure: Measure | None = None,
    ) -> MeasuredRun:
        """Reduce the predictions of one part; the order of their pictures does not matter.

        Args:
            predictions: of the part.
            run_id, configuration, name, seed, part, split_fingerprint, cost: see the attributes.
            measure: that candidates are ranked by; None for accuracy.

        Raises:
            ValueError: there are no pictures, one is predicted twice, or what the metrics and the
                measure refuse.
        """
        measure = measure or Measure()
        ids = predictions.sample_ids
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        if (ids[1:] == ids[:-1]).any():
            raise ValueError(f"Run {run_id} predicts some pictures of its {part} part twice.")
        kind = predictions.kind_of_targets
        probs, targets = kind.checked(predictions.probs, predictions.targets)
        # Computed once, which matters with a thousand runs.
        preds = predictions.decided
        right = kind.right(preds, targets)
        scores = None
        if measure.name != "accuracy":
            scores = measure.scores(probs, preds, targets, kind, predictions.groups)[order]
        return cls(
            run_id=run_id,
            configuration=configuration,
            name=name,
            seed=seed,
            part=part,
            split_fingerprint=split_fingerprint,
            pictures=_hash(ids),
            labels=_hash(kind.measured_on(probs, targets)[order]),
            right=right[order],
            losses=kind.losses(probs, targets)[order],
            calibration_error=kind.calibration_error(probs, targets, preds),
            cost=cost,
            groups=None if predictions.groups is None else predictions.groups[order],
            copies=predictions.copies,
            scores=scores,
            scale=Scale(
                measure.name,
                constant=kind.constant(targets),
                baseline=measure.baseline(probs, targets, kind),
                lone=measure.lone(probs, targets, predictions.groups),
                ends=measure.ends,
            ),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """A configuration with its R repeats, each a training with a seed of its own.

    Attributes:
        name: unique among the candidates.
        run_ids: R ids.
        right: (R, N) bool: which training had which picture right.
        log_losses: (R,) of each training, mean over the pictures, in nats.
        calibration_errors, costs: (R,) likewise, NaN where not measured; None where none is.
        scores: (R, N) float32 by the measure that the candidates are ranked by, higher for better;
            None for accuracy, where they are `right`.
    """

    name: str
    run_ids: tuple[str, ...]
    right: BoolArray
    log_losses: Float64Array
    calibration_errors: Float64Array | None = None
    costs: Float64Array | None = None
    scores: Float32Array | None = None

    def __post_init__(self) -> None:
        if self.right.ndim != 2 or 0 in self.right.shape or self.right.dtype != np.bool_:
            raise ValueError(
                f"{self.name}: right is {self.right.dtype} of shape {self.right.shape}: it must be "
                "bool of shape (R, N), repeats times pictures, neither of them 0."
            )
        if self.log_losses.shape != self.right.shape[:1]:
            raise ValueError(
                f"{self.name}: log_losses has shape {self.log_losses.shape}: it must be "
                f"{self.right.shape[:1]}, one of each training."
            )

    @property
    def log_loss(self) -> float:
        """Mean over pictures and repeats, in nats."""
        return float(self.log_losses.mean())

    @property
    def calibration_error(self) -> float:
        """Mean over the repeats; NaN where not measured."""
        found = self.calibration_errors
        return math.nan if found is None else float(found.mean())

    @property
    def cost(self) -> float | None:
        """Mean over the repeats that know it; None where none does."""
        known = None if self.costs is None else self.costs[~np.isnan(self.costs)]
        return None if known is None or not len(known) else float(known.mean())

    def only(self, kept: BoolArray) -> Candidate:
        """Return it with some of its trainings, as (R,) says."""
        return replace(
            self,
            run_ids=tuple(run for run, stays in zip(self.run_ids, kept) if stays),
            right=self.right[kept],
            log_losses=self.log_losses[kept],
            calibration_errors=_of(self.calibration_errors, kept),
            costs=_of(self.costs, kept),
            scores=None if self.scores is None else self.scores[kept],
        )

    @property
    def values(self) -> BoolArray | Float32Array:
        """(R, N) scores by the measure."""
        return self.right if self.scores is None else self.scores


def candidates_of(runs: Iterable[MeasuredRun]) -> tuple[Candidate, ...]:
    """Group the repeats of each configuration, in the order in which they first appear.

    Of runs with the same configuration and the same seed the last one counts: a training that
    is a copy of another says nothing about what another seed would give. Configurations that
    share a name are told apart by a run id.

    Raises:
        ValueError: there are no runs, or one of them was not measured on the same pictures, with
            the same labels, of the same part and split as the first; the run is named.
    """
    groups: dict[str, dict[int, MeasuredRun]] = {}
    first: MeasuredRun | None = None
    for run in runs:
        first = first or run
        _check_comparable(first, run)
        groups.setdefault(run.configuration, {})[run.seed] = run
    if first is None:
        raise ValueError("There are no runs to compare.")
    names = [next(iter(group.values())).name for group in groups.values()]
    return tuple(
        _candidate(list(group.values()), alone=names.count(name) == 1)
        for name, group in zip(names, groups.values())
    )


def _of(values: Float64Array | None, kept: BoolArray) -> Float64Array | None:
    return None if values is None else values[kept]


def _candidate(runs: list[MeasuredRun], *, alone: bool) -> Candidate:
    costs = [math.nan if run.cost is None else run.cost for run in runs]
    return Candidate(
        name=runs[0].name if alone else f"{runs[0].name} ({runs[0].run_id[:8]})",
        run_ids=tuple(run.run_id for run in runs),
        right=np.stack([run.right for run in runs]),
        log_losses=np.array([run.losses.mean(dtype=np.float64) for run in runs]),
        calibration_errors=np.array([run.calibration_error for run in runs]),
        costs=np.array(costs),
        scores=_stacked([run.scores for run in runs]),
    )


def _stacked(scores: Sequence[Float32Array | None]) -> Float32Array | None:
    known = [one for one in scores if one is not None]
    return np.stack(known) if known else None


def _check_comparable(first: MeasuredRun, run: MeasuredRun) -> None:
    def refuse(difference: str) -> None:
        raise ValueError(
            f"{run.name} (run {run.run_id}) cannot be compared with {first.name} "
            f"(run {first.run_id}): {difference}."
        )

    if run.part != first.part:
        refuse(f"one was measured on the part {run.part}, the other on {first.part}")
    if run.split_fingerprint != first.split_fingerprint:
        refuse("they were trained on different splits of the pictures")
    if len(run.right) != len(first.right):
        refuse(f"one was measured on {len(run.right)} pictures, the other on {len(first.right)}")
    if run.pictures != first.pictures:
        refuse("they were measured on different pictures")
    if run.labels != first.labels:
        refuse("they were measured with different labels, or pixels, of the same pictures")


def _hash(numbers: IntegerArray) -> str:
    return hashlib.blake2b(
        np.ascontiguousarray(numbers, "<i8").tobytes(), digest_size=16
    ).hexdigest()
