"""Data that a comparison's report shows beside its verdict.

`src.selection.comparison.report` fills it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..machine.arrays import Float64Array, Int64Array, UInt8Array
from .comparison import Comparison, Interval

__all__ = ["Agreement", "Answer", "Disagreement", "GroupScore", "Leader", "ReportData"]


@dataclass(frozen=True)
class GroupScore:
    """The share of a group of pictures, or of a subgroup, that a candidate has right.

    Attributes:
        shown: path of its first picture, or that picture's number in the data set; of a subgroup,
            the value of its column.
        pictures: in the group.
        accuracy: share of right answers, mean over the repeats.
        interval: 95 %, as if other pictures of the same group were drawn; None where it cannot be
            estimated, for a subgroup of one picture or one group.
    """

    shown: str
    pictures: int
    accuracy: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class Leader:
    """One of the candidates that a report shows in detail.

    Attributes:
        rank, name, family: of the candidate.
        matrix: (K, K) counts over all its repeats, targets in rows; (0, 0) of label sets.
        recall: (K,) in [0, 1], NaN for a class without pictures; of pixels the IoU of each class.
        recall_intervals: K intervals of it, each 95 % by itself; None where it cannot be estimated,
            for a class of one picture or one group.
        groups: the groups that it has least right, () where pictures stand for themselves.
        subgroups: those of a column of the user's table, the least right first; () for none.
        trainings: number of its repeats, each of which answers every picture once.
        calibration_error: over all its repeats, in [0, 1].
        pictures: K numbers of those that have each label, of label sets and pixels; () where
            `matrix` says it.
        confidence, accuracy, shares: (M,) of its pictures grouped by confidence: mean confidence,
            share that is right, and share of all pictures; groups without pictures are left out.
            M is 0 of pixels, whose probabilities are not kept.
    """

    rank: int
    name: str
    family: str
    matrix: Int64Array
    recall: Float64Array
    calibration_error: float
    confidence: Float64Array
    accuracy: Float64Array
    shares: Float64Array
    recall_intervals: tuple[Interval | None, ...] = ()
    groups: tuple[GroupScore, ...] = ()
    subgroups: tuple[GroupScore, ...] = ()
    trainings: int = 1
    pictures: tuple[int, ...] = ()

    @property
    def weakest_first(self) -> Int64Array:
        """Indices of the classes that have pictures, by ascending recall."""
        present = np.flatnonzero(~np.isnan(self.recall))
        return present[np.argsort(self.recall[present], kind="stable")]


@dataclass(frozen=True)
class Answer:
    """The prediction of one leader for a picture."""

    label: str
    probability: float
    right: bool


@dataclass(frozen=True, eq=False)
class Disagreement:
    """A picture for which leaders predict different classes.

    Attributes:
        sample_id: its number in the data set.
        shown: its path, or that number.
        target: the name of its class.
        answers: of the leaders, in their order.
        picture: (C, H, W) uint8, or None where it is not available.
    """

    sample_id: int
    shown: str
    target: str
    answers: tuple[Answer, ...]
    picture: UInt8Array | None = None


@dataclass(frozen=True)
class Agreement:
    """Shares of the pictures, in [0, 1]: all leaders predict the same, at least one is right."""

    agree: float
    any_right: float


@dataclass(frozen=True, eq=False)
class ReportData:
    """All that a report of a comparison shows.

    Attributes:
        comparison: what it is about.
        class_names: K names.
        leaders: the best candidate of each of the best families, or of one family the best ones.
        agreement: of the leaders' first trainings; None for a single leader.
        disagreements: the most confident first.
        no_pictures: why the pictures cannot be shown, or None.
        curves: by rank of the candidate, `curve` on the validation part after each epoch.
        importances: by family, the share of the variance of the study's first metric that each
            searched key explains.
        importance_of: that metric.
        curve: plain name of what the curves show.
        of_classes: plain name of the figure of each class.
        subgroup: column of the user's table that tells subgroups apart; None for none.
    """

    comparison: Comparison
    class_names: tuple[str, ...]
    leaders: tuple[Leader, ...]
    agreement: Agreement | None
    disagreements: tuple[Disagreement, ...]
    curves: Mapping[int, tuple[tuple[int, float], ...]]
    no_pictures: str | None = None
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    importance_of: str = ""
    curve: str = "accuracy"
    of_classes: str = "recall"
    subgroup: str | None = None
