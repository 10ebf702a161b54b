"""Records of a comparison: the verdict on its candidates, and what a report of it shows.

`src.statistics` and `src.selection.comparison` fill them in, `src.reporting` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Agreement",
    "Answer",
    "Comparison",
    "Disagreement",
    "Entrant",
    "FoldTest",
    "Interval",
    "Leader",
    "McNemar",
    "Pair",
    "Power",
    "ReportData",
    "Standing",
    "Verdict",
]


@dataclass(frozen=True)
class Interval:
    """A closed interval; as text in percent."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{100 * self.low:.1f} to {100 * self.high:.1f} %"


@dataclass(frozen=True)
class McNemar:
    """The outcome of McNemar's exact test.

    Attributes:
        first_alone, second_alone: pictures that only the one network had right.
        p_value: two-sided.
    """

    first_alone: int
    second_alone: int
    p_value: float


@dataclass(frozen=True)
class FoldTest:
    """The outcome of a test over folds.

    Attributes:
        difference: mean over the folds, accuracy of the first minus that of the second.
        interval: of the difference, 95 %.
        p_value: two-sided.
    """

    difference: float
    interval: Interval
    p_value: float


@dataclass(frozen=True)
class Power:
    """Which difference between two candidates the pictures suffice to find.

    Attributes:
        gap: measured accuracy of the better one minus that of the other.
        smallest_gap: a true difference of this size would be found with the power asked for.
        pictures: number needed to find a true difference of the size of `gap`, with as many
            repeats of each candidate as `repeats`; None where `gap` is 0.
        repeats: the fewest, from those there are upwards, with which seeds leave room for that.
    """

    gap: float
    smallest_gap: float
    pictures: int | None
    repeats: int


@dataclass(frozen=True)
class Standing:
    """One line of the leaderboard.

    Attributes:
        rank: from 1, by accuracy; level ones by log-loss, then by name.
        name: of the candidate.
        run_ids: of its repeats.
        accuracy: mean over pictures and repeats, as measured.
        spread: standard deviation of the accuracies of its repeats, None for a single one.
        interval: of the true accuracy, 95 %; the winner's is corrected for selection bias.
        behind: of the true accuracy minus that of the best of the others, for all candidates
            simultaneously; at most 0 for one that is certainly not the best.
        tied: whether it cannot be told from the best.
        log_loss, calibration_error, cost: as the candidate has them.
    """

    rank: int
    name: str
    run_ids: tuple[str, ...]
    accuracy: float
    spread: float | None
    interval: Interval
    behind: Interval
    tied: bool
    log_loss: float
    calibration_error: float
    cost: float | None


@dataclass(frozen=True)
class Verdict:
    """Which candidate to use, and how sure that is.

    Attributes:
        standings: of all candidates, the best first.
        winner: the first of them.
        winner_accuracy: corrected for selection bias; `winner.interval` goes with it.
        tied: the candidates that cannot be told from the best, the best first. The truly best is
            among them with 95 % confidence.
        cheapest: the one of them with the lowest cost, None where a cost is missing.
        choice: of those of them that are behind the winner by no more than the standard error of
            the difference the one with the lowest cost, or the winner where a cost is missing. With
            little data the tied set holds many that are probably worse, and this rule leaves them
            out: the one standard error rule of Breiman, Friedman, Olshen & Stone, "Classification
            and Regression Trees", 1984, section 3.4.3, on paired answers.
        difference: of two candidates that are the whole field, and so were not picked for their
            figures, the true accuracy of the first minus that of the second; else None.
        power: which difference between the best two would be found; None for a single candidate.
        pictures: number of pictures that the candidates were measured on.
        of_configurations: whether the verdict is about configurations. If not, it is about the
            trained networks alone: without repeats, the effect of other seeds is unknown.
        seed_share: of the variance of the winner's accuracy, what comes from seeds, in [0, 1];
            None where no candidate has repeats.
        borrowed: names of the candidates with one repeat, whose spread is that of the others.
    """

    standings: tuple[Standing, ...]
    winner: Standing
    winner_accuracy: float
    tied: tuple[Standing, ...]
    cheapest: Standing | None
    choice: Standing
    difference: Interval | None
    power: Power | None
    pictures: int
    of_configurations: bool
    seed_share: float | None
    borrowed: tuple[str, ...]


@dataclass(frozen=True)
class Entrant:
    """A candidate of a comparison with its runs.

    Attributes:
        standing: of the candidate.
        family: its kind of model.
        size: (H, W) in pixels of the pictures that it takes, None where that is not known.
        start, weights: see `RunSummary`.
        parameters: of its network, None where that is not known.
        training_seconds: of one training, mean over the repeats; None where not measured.
        run_dirs: folders of its repeats, in the order of `standing.run_ids`.
        command: the command line that repeats the first of them.
    """

    standing: Standing
    family: str
    size: tuple[int, int] | None
    start: str | None
    weights: str | None
    parameters: int | None
    training_seconds: float | None
    run_dirs: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class Pair:
    """Two runs by name, and the test of their difference.

    Attributes:
        first, second: their names.
        test: of two trained networks.
        over_folds: of two cross-validations; one of the two tests is there.
        repeats: whether both are of one configuration and differ in the seed alone.
    """

    first: str
    second: str
    test: McNemar | None
    over_folds: FoldTest | None
    repeats: bool = False


@dataclass(frozen=True)
class Comparison:
    """The outcome of comparing finished runs.

    Attributes:
        verdict: on the candidates.
        entrants: the same candidates in the same order.
        pair: where exactly two runs were compared.
        remarks: what was left out or changed, a sentence each.
        part: whose stored predictions were compared.
        data: name of the data set.
        runs: number of runs compared.
        test_measurements: how often the test part of this split has been measured.
        folds: of the cross-validations that were compared, None for trained networks.
    """

    verdict: Verdict
    entrants: tuple[Entrant, ...]
    pair: Pair | None
    remarks: tuple[str, ...]
    part: str
    data: str
    runs: int
    test_measurements: int
    folds: int | None = None


@dataclass(frozen=True, eq=False)
class Leader:
    """One of the candidates that a report shows in detail.

    Attributes:
        rank, name, family: of the candidate.
        matrix: (K, K) counts over all its repeats, targets in rows.
        recall: (K,) in [0, 1], NaN for a class without pictures.
        calibration_error: over all its repeats, in [0, 1].
        confidence, accuracy, shares: (M,) of its pictures grouped by confidence: mean confidence,
            share that is right, and share of all pictures; groups without pictures are left out.
    """

    rank: int
    name: str
    family: str
    matrix: NDArray[np.int64]
    recall: NDArray[np.float64]
    calibration_error: float
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    shares: NDArray[np.float64]

    @property
    def weakest_first(self) -> NDArray[np.int64]:
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
        shown: its path, or its number in the data set.
        target: the name of its class.
        answers: of the leaders, in their order.
        picture: (C, H, W) uint8, or None where it is not available.
    """

    shown: str
    target: str
    answers: tuple[Answer, ...]
    picture: NDArray[np.uint8] | None


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
        curves: by rank of the candidate, the accuracy on the validation part after each epoch.
        importances: by family, the share of the variance of the study's first metric that each
            searched key explains.
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
