"""What a report of a comparison shows beside its leaderboard: plain values, gathered elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from src.metrics.classification import per_class_recall
from src.metrics.probabilistic import ReliabilityBins
from src.records.trials import COMPLETE, SweepRecord, TrialRecord
from src.reporting.comparison import Comparison

__all__ = ["Agreement", "Answer", "Disagreement", "Exhibits", "Leader", "as_race"]

_COSTS = ("cost/parameters", "cost/latency_ms", "cost/training_seconds")


@dataclass(frozen=True, eq=False)
class Leader:
    """One of the candidates that are looked at more closely.

    Attributes:
        rank, name, family: of the candidate.
        matrix: (K, K) counts over all its repeats, targets in rows.
        bins: of its confidence, over all its repeats.
    """

    rank: int
    name: str
    family: str
    matrix: NDArray[np.int64]
    bins: ReliabilityBins

    @property
    def recall(self) -> NDArray[np.float64]:
        """(K,) in [0, 1], NaN for a class without pictures."""
        return per_class_recall(self.matrix)

    @property
    def weakest_first(self) -> NDArray[np.int64]:
        """Indices of the classes that have pictures, by recall."""
        recall = self.recall
        present = np.flatnonzero(~np.isnan(recall))
        return present[np.argsort(recall[present], kind="stable")]


@dataclass(frozen=True)
class Answer:
    """What one leader says of a picture."""

    label: str
    probability: float
    right: bool


@dataclass(frozen=True, eq=False)
class Disagreement:
    """A picture of which leaders say different things.

    Attributes:
        shown: what people know the picture by.
        target: the name of its class.
        answers: of the leaders, in their order.
        picture: (C, H, W) uint8, or None where it cannot be had.
    """

    shown: str
    target: str
    answers: tuple[Answer, ...]
    picture: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Agreement:
    """Shares of the pictures, in [0, 1]: all leaders say the same, at least one is right."""

    agree: float
    any_right: float

    @property
    def sentence(self) -> str:
        """The shares in words."""
        return (
            f"They say the same of {100 * self.agree:.1f} % of the pictures; at least one of them "
            f"is right for {100 * self.any_right:.1f} %."
        )


@dataclass(frozen=True, eq=False)
class Exhibits:
    """All that the report shows.

    Attributes:
        comparison: what it is about.
        class_names: K names.
        leaders: the best candidate of each of the best families, or of one family the best ones.
        agreement: of the leaders' first trainings; None for a single leader.
        disagreements: the surest first.
        no_pictures: why the pictures cannot be shown, or None.
        curves: by rank of the candidate, the accuracy on the validation part after each epoch.
        importances: by family, share of each searched key in how the study's first metric varies.
        importance_of: that metric.
    """

    comparison: Comparison
    class_names: tuple[str, ...]
    leaders: tuple[Leader, ...]
    agreement: Agreement | None
    disagreements: tuple[Disagreement, ...]
    no_pictures: str | None
    curves: Mapping[int, tuple[tuple[int, float], ...]]
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    importance_of: str = ""


def as_race(exhibits: Exhibits) -> SweepRecord:
    """The comparison as figures of sweeps see it: a race whose every trial is a candidate."""
    comparison = exhibits.comparison
    trials = []
    for one in comparison.entrants:
        costs = (one.parameters, one.standing.cost, one.training_seconds)
        known = {key: float(cost) for key, cost in zip(_COSTS, costs) if cost is not None}
        trials.append(
            TrialRecord(
                number=one.standing.rank,
                family=one.family,
                state=COMPLETE,
                values={},
                curve=exhibits.curves.get(one.standing.rank, ()),
                objectives=(one.standing.accuracy,),
                seconds=one.training_seconds,
                figures=known,
            )
        )
    return SweepRecord(
        study=comparison.data,
        metrics=(f"{comparison.part}/accuracy",),
        directions=("maximize",),
        families=tuple(dict.fromkeys(one.family for one in comparison.entrants)),
        trials=tuple(trials),
    )
