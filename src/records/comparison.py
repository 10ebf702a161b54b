"""Records of a comparison: the verdict on its candidates, and the candidates with their runs.

`src.statistics` and `src.selection.comparison` fill them in, `src.reporting` shows them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..machine.text import fixed, percent
from ..metrics.registry import RANKING

__all__ = [
    "Collapses",
    "Comparison",
    "Entrant",
    "FoldTest",
    "Interval",
    "McNemar",
    "Pair",
    "Power",
    "Recommendation",
    "Standing",
]

_ROUNDING = 1e-6


@dataclass(frozen=True)
class Interval:
    """A closed interval; as text in percent."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{fixed(100 * self.low, 1)} to {percent(self.high)}"


@dataclass(frozen=True)
class McNemar:
    """The outcome of McNemar's exact test.

    Attributes:
        first_alone, second_alone: pictures that only the one network had right; of pictures in
            groups, the groups of which it had more right.
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
    """The true difference of the best two that the comparison would find, and what it needs.

    Found means: the worse one of the two is left out of the tied set.

    Attributes:
        gap: a difference that matters to the user, in the units of the figures.
        probability: of finding it, of the test that the verdict goes by.
        smallest_gap: the difference that is found with that probability now.
        pictures: number needed to find `gap` with as many repeats as `repeats`; None where no
            number suffices.
        repeats: trainings of each, the fewest from those there are upwards with which seeds leave
            room for that.
    """

    gap: float
    probability: float
    smallest_gap: float
    pictures: int | None
    repeats: int


@dataclass(frozen=True)
class Collapses:
    """Trainings that collapsed, and are left out of all figures.

    Attributes:
        names: of the candidates that have any, the best first.
        run_ids: of the trainings that collapsed.
        among: so many trainings of candidates with repeats.
        share: of all trainings like these, 95 % interval.
        accuracy: mean of the collapsed ones.
        winner: the winner's mean figure if collapsed trainings count as often as they come, an
            interval; None where the figures are not accuracies.
    """

    names: tuple[str, ...]
    run_ids: tuple[str, ...]
    among: int
    share: Interval
    accuracy: float
    winner: Interval | None

    @property
    def trainings(self) -> int:
        """The number of those that collapsed."""
        return len(self.run_ids)


@dataclass(frozen=True)
class Standing:
    """One line of the leaderboard.

    Attributes:
        rank: from 1, by the figure; level ones by log-loss, then by name.
        name: of the candidate.
        run_ids: of its repeats, without those that collapsed.
        accuracy: mean over pictures and repeats, as measured.
        figure: by the measure that ranks, likewise; the accuracy itself unless another is chosen.
        spread: standard deviation of the figures of its repeats, None for a single one.
        interval: of the true figure; those of all candidates hold at once with 95 % confidence.
        behind: of the true figure minus that of the best of the others (of costs the other way
            round), for all candidates at once; at most 0 for one that is certainly not the best.
        tied: whether it is statistically tied with the best.
        best: probability that it is the best.
        equal: probability that it is behind the best by no more than the band that counts as equal.
        loss: expected difference to the best, at least 0.
        log_loss, calibration_error, cost: as the candidate has them.
        collapsed: number of its trainings that collapsed.
    """

    rank: int
    name: str
    run_ids: tuple[str, ...]
    accuracy: float
    figure: float
    spread: float | None
    interval: Interval
    behind: Interval
    tied: bool
    best: float
    equal: float
    loss: float
    log_loss: float
    calibration_error: float
    cost: float | None
    collapsed: int = 0


@dataclass(frozen=True)
class Recommendation:
    """The candidate to use, and how sure that is.

    Attributes:
        measure: of `src.metrics.registry.RANKING`, that the figures are of and that ranks.
        standings: of all candidates, the best first.
        winner: the first of them.
        corrected: its figure corrected for having been picked; within `winner.interval`.
        tied: the candidates statistically tied with the best, the best first. The best of all is
            among them with 95 % confidence.
        cheapest: of them the best that no other is cheaper than by a third or more, each that is
            passed over for one that is; None where a cost is missing.
        near: the winner, and those of the tied that are behind it by no more than `band` and no
            more than the standard error of the difference, and have no collapsed training, the
            best first.
        choice: the cheapest of these in the same sense, or the winner where a cost is missing. With
            little data the tied set holds many that are probably worse, and so does one standard
            error (the rule of Breiman, Friedman, Olshen & Stone, "Classification and Regression
            Trees", 1984, section 3.4.3, on paired answers), which `band` bounds.
        difference: of two candidates that are the whole field, the true figure of the first minus
            that of the second (of costs the other way round): 0 is in it where they are tied, and
            nowhere else; None for more candidates.
        power: None for a single candidate.
        band: practically equivalent difference, in the units of the figures.
        pictures: number of pictures that the candidates were measured on.
        groups: number of independent groups that these make; None where each stands for itself.
        sets: whether the targets are label sets, whose accuracy counts exact matches alone.
        copies: whether these are of pictures that are alike, and none was named by the user.
        of_configurations: whether the verdict is about configurations. If not, it is about the
            trained networks alone: without repeats, the effect of other seeds is unknown.
        seed_share: of the variance of the winner's figure, what comes from seeds, in [0, 1];
            None where no candidate has repeats.
        borrowed: names of the candidates with one repeat, whose spread is that of the others.
        unsteady: names of the candidates whose trainings are too few to show how far seeds move
            them, which may be farther than pictures do: intervals and ties then hold if all
            candidates depend on seeds about alike, and the corrected figure is rather too good.
        decided_by_seeds: probability that further seeds, however many, would tell the winner from
            another one that is tied on these same pictures; None where seeds are not known.
        collapses: None where no training collapsed.
        screened: number of other candidates that these were chosen from on the same pictures, by
            a single training each; they have no standing.
        look: how often candidates were judged, this time included, while some got further seeds;
            what is said with 95 % confidence holds for all looks after the first together.
        baseline: figure of the best answer that is the same for everything, such as the most
            frequent class; None where it is not known.
        lone: number of classes or labels that one picture, or group, has, where the measure is a
            mean over them: how much their figures vary is taken from those of the others.
    """

    measure: str
    standings: tuple[Standing, ...]
    winner: Standing
    corrected: float
    tied: tuple[Standing, ...]
    cheapest: Standing | None
    near: tuple[Standing, ...]
    choice: Standing
    difference: Interval | None
    power: Power | None
    band: float
    pictures: int
    groups: int | None
    of_configurations: bool
    seed_share: float | None
    borrowed: tuple[str, ...]
    unsteady: tuple[str, ...] = ()
    decided_by_seeds: float | None = None
    collapses: Collapses | None = None
    screened: int = 0
    look: int = 1
    baseline: float | None = None
    lone: int = 0
    sets: bool = False
    copies: bool = False

    @property
    def beats_baseline(self) -> bool:
        """Whether the choice is shown to be better than `baseline`, or that is not known."""
        if self.baseline is None:
            return True
        low, high = self.choice.interval.low, self.choice.interval.high
        # The kappa of one class for all pictures is 0 in theory, and 1e-17 in floating point.
        if self.higher_is_better:
            return low > self.baseline + _ROUNDING
        return high < self.baseline - _ROUNDING

    @property
    def higher_is_better(self) -> bool:
        """Whether higher figures are better, as of all but losses and costs."""
        return RANKING[self.measure].higher_is_better


@dataclass(frozen=True)
class Entrant:
    """A candidate of a comparison with its runs.

    Attributes:
        standing: of the candidate.
        family: its kind of model.
        settings: what tells it apart from the others of its family, as in "lr=0.003 width=32".
        size: (H, W) in pixels of the pictures that it takes, None where that is not known.
        start, weights: see `RunSummary`.
        parameters: of its network, None where that is not known.
        training_seconds: of one training, mean over the repeats; None where not measured.
        run_dirs: folders of its repeats, in the order of `standing.run_ids`.
        command: the command line that repeats the first of them.
        disturbed: whether a latency of theirs was measured beside other programs, which makes it
            longer.
    """

    standing: Standing
    family: str
    settings: str
    size: tuple[int, int] | None
    start: str | None
    weights: str | None
    parameters: int | None
    training_seconds: float | None
    run_dirs: tuple[str, ...]
    command: str
    disturbed: bool = False


@dataclass(frozen=True)
class Pair:
    """Two trained networks by name, and the pictures on which they differ.

    Attributes:
        first, second: their names.
        first_alone, second_alone: pictures that only the one has right.
        repeats: whether both are of one configuration and differ in the seed alone.
    """

    first: str
    second: str
    first_alone: int
    second_alone: int
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
        pixels: whether pixels have the classes; then the standings' accuracy, the share of pictures
            with every pixel right, says nothing.
    """

    verdict: Recommendation
    entrants: tuple[Entrant, ...]
    pair: Pair | None
    remarks: tuple[str, ...]
    part: str
    data: str
    runs: int
    test_measurements: int
    folds: int | None = None
    pixels: bool = False

    @property
    def choice(self) -> Entrant:
        """The choice of the verdict with its runs."""
        name = self.verdict.choice.name
        return next(one for one in self.entrants if one.standing.name == name)
