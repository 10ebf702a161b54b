"""Records of a sweep: its trials, finalists and result."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .ties import MEAN_DIGITS, METRICS, Place, place

__all__ = [
    "COMPLETE",
    "FAILED",
    "PRUNED",
    "RUNNING",
    "STOPPED",
    "Finalist",
    "NetworkRecord",
    "SweepRecord",
    "TrialRecord",
    "candidate_name",
]

RUNNING, COMPLETE, PRUNED, FAILED = "running", "complete", "pruned", "failed"
# How a pruned trial is called that was not worse but too late, and how the reason of one begins.
STOPPED = "stopped"
_TOO_LATE = ("stopped after", "the time was over")


def candidate_name(family: str, trial: int) -> str:
    """Return the short name of a sweep's candidate, "cnn-12" for trial 12 of the family cnn.

    It is the same on the terminal, on every page and in MLflow, where a training with another seed
    is "cnn-12-seed1".
    """
    return f"{family}-{trial}"


@dataclass(frozen=True)
class TrialRecord:
    """A trial in its current state.

    Attributes:
        number: from 0, unique in the study.
        state: "running", "complete", "pruned" or "failed".
        values: what was searched, by key of a run's settings.
        overrides: of the command line, which make its configuration.
        curve: the first metric after each epoch, (epoch from 1, value); of a cross-validated trial
            that of each fold.
        objectives: all metrics, of a complete trial.
        best: the best value on the curve, or None.
        seconds: of training, validation and all; None before it ends.
        figures: further figures of a complete trial, by metric key.
        reason: why it was pruned or failed.
        run_id, run_dir: our own id and the folder of its run; None before it began.
        is_default: whether this is the family's own configuration.
    """

    number: int
    family: str
    state: str
    values: Mapping[str, Any]
    overrides: tuple[str, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()
    objectives: tuple[float, ...] | None = None
    best: float | None = None
    seconds: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    run_id: str | None = None
    run_dir: str | None = None
    is_default: bool = False

    @property
    def ending(self) -> str:
        """The state as people read it: "stopped" of a trial that was pruned for lack of time."""
        late = self.state == PRUNED and (self.reason or "").startswith(_TOO_LATE)
        return STOPPED if late else self.state

    @property
    def name(self) -> str:
        """The short name of the candidate."""
        return candidate_name(self.family, self.number)

    @property
    def last(self) -> float | None:
        """The first metric at the last epoch there is."""
        return self.curve[-1][1] if self.curve else None

    @property
    def value(self) -> float | None:
        """The value that it is judged by: its first objective, else `last`; None unless finite."""
        value = self.objectives[0] if self.objectives else self.last
        return value if value is not None and math.isfinite(value) else None

    @property
    def epochs(self) -> int:
        """Trained so far."""
        return self.curve[-1][0] if self.curve else 0

    @property
    def known_epochs(self) -> int | None:
        """`epochs`; None of a complete trial of which the metric was known at the end alone."""
        return None if self.state == COMPLETE and not self.curve else self.epochs

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a metric; None where there is none."""
        low, high = (self.figures.get(f"{metric}_{end}", math.nan) for end in ("low", "high"))
        return (low, high) if math.isfinite(high - low) else None

    def place(self, direction: str) -> Place:
        """Return the key that sorts trials by their values; see `src.records.ties`."""
        log_loss, latency = map(self.figures.get, METRICS)
        return place(
            self.value,
            maximize=direction == "maximize",
            log_loss=log_loss,
            latency=latency,
            name=self.name,
        )


@dataclass(frozen=True)
class Finalist:
    """A configuration trained again over seeds.

    Attributes:
        trial: number of the trial that it comes from.
        runs: by seed, the first metric of the run, or None for one that failed.
        run_dirs: folders of the runs, by seed.
        left_out: whether an earlier comparison than the last one found it to be worse than the
            best.
        collapsed: seeds whose trainings collapsed, and count for nothing: see `judge`.
        figures: by seed, the log-loss and the latency of the run by metric key, where known.
    """

    trial: int
    runs: Mapping[int, float | None]
    run_dirs: Mapping[int, str] = field(default_factory=dict)
    left_out: bool = False
    collapsed: tuple[int, ...] = ()
    figures: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def first_seed(self) -> int | None:
        """The first seed that ended well, whose run stands for the configuration: it was not
        selected by its result. None if none did."""
        return min(self.values, default=None)

    @property
    def mean(self) -> float | None:
        """Over the seeds that ended well; None if none did."""
        return sum(self.values.values()) / len(self.values) if self.values else None

    def place(self, direction: str, name: str) -> Place:
        """Return the key that sorts finalists by their means; see `src.records.ties`.

        A log-loss or a latency that one of the seeds lacks is not known.
        """
        known = [self.figures.get(seed, {}) for seed in self.values]
        log_loss, latency = (
            _mean([one[key] for one in known]) if all(key in one for one in known) else None
            for key in METRICS
        )
        return place(
            _mean(self.values.values()),
            maximize=direction == "maximize",
            log_loss=log_loss,
            latency=latency,
            name=name,
        )

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (of the sample); None below two."""
        mean, count = self.mean, len(self.values)
        if mean is None or count < 2:
            return None
        # Not by the standard library, which takes no infinity: a loss may be one.
        return float((sum((v - mean) ** 2 for v in self.values.values()) / (count - 1)) ** 0.5)

    @property
    def values(self) -> dict[int, float]:
        """The first metric by seed, of the runs that ended well and did not collapse."""
        return {
            seed: value
            for seed, value in self.runs.items()
            if value is not None and seed not in self.collapsed
        }


@dataclass(frozen=True)
class NetworkRecord:
    """A frozen network, or several whose features stand side by side, as ranked before the race.

    Attributes:
        name: of the network, or those of several joined by " + ".
        taken: whether the family's trials use it.
        side: pixels of a side of the pictures that it took; None where that is not known.
        accuracy, error: of a quick head, cross-validated on a sample of the training part, in
            [0, 1], and its standard error; None where it was not measured.
        measure: "accuracy", or "map" of label sets, what `accuracy` is.
        logme: see `src.features.transfer.logme`; None where it was not measured.
        images_per_second: decoded and described; None of several.
        family: that it was ranked for.
    """

    name: str
    taken: bool
    side: int | None = None
    accuracy: float | None = None
    error: float | None = None
    logme: float | None = None
    images_per_second: float | None = None
    family: str = ""
    measure: str = "accuracy"


@dataclass(frozen=True)
class SweepRecord:
    """A study in its current state.

    Attributes:
        metrics: what it goes by; the first one ranks.
        directions: "maximize" or "minimize" for each.
        families: in the order they were named.
        base: overrides that all trials share.
        commands: by trial number, the command line that repeats it by hand; that of the winner
            repeats the run whose test is shown.
        importances: by family, share of each key in how the first metric varies; sums to 1.
        finalists: best mean first.
        winner: number of the winning trial, or None while there is none.
        test: figures of the winner on the test part, by metric key; empty where not measured.
        test_measurements: how often that part has been measured, this time included.
        caution: that the winner may be no better than one answer for everything; "" where it is.
        constant: what such an answer has, where that is much of what the winner has; else "".
        seconds: from the first preparation to the test of the winner, over all starts without the
            pauses between them.
        steps: what a curve counts, "epochs" or "folds".
        networks: frozen networks as they were ranked; empty where none was to be chosen.
        looks: how often the finalists were compared while they got further seeds, at least 1.
        extra_trainings: of finalists, beyond those that each of them had.
        data: name of the data set; "" where it is not known.
        parts: number of pictures in "train", "val" and "test"; {} where it is not known.
        next_step: the command line that judges the result; "" where it is not known.
        short: what is missing for lack of time, and the command that lets more in; two empty texts
            where nothing is.
        costs: of each prediction by name, for each true class by name, where it goes by a cost.
        left_out: why a family had no trial, by name; "" where that is not known.
        closed: why a family got no further trial before the budget was used up, by name.
        reduced: the settings that a family was given for lack of time, by name.
    """

    study: str
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    families: tuple[str, ...]
    trials: tuple[TrialRecord, ...]
    base: tuple[str, ...] = ()
    commands: Mapping[int, str] = field(default_factory=dict)
    importances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    finalists: tuple[Finalist, ...] = ()
    winner: int | None = None
    test: Mapping[str, float] = field(default_factory=dict)
    test_measurements: int | None = None
    caution: str = ""
    constant: str = ""
    seconds: float = 0.0
    steps: str = "epochs"
    networks: tuple[NetworkRecord, ...] = ()
    looks: int = 1
    extra_trainings: int = 0
    data: str = ""
    parts: Mapping[str, int] = field(default_factory=dict)
    next_step: str = ""
    short: tuple[str, str] = ("", "")
    costs: Mapping[str, Mapping[str, float]] | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    closed: Mapping[str, str] = field(default_factory=dict)
    reduced: Mapping[str, str] = field(default_factory=dict)

    @property
    def higher_is_better(self) -> bool:
        """Of the first metric."""
        return self.directions[0] == "maximize"

    @cached_property
    def sets(self) -> bool:
        """Whether pictures have sets of labels: a mean average precision is measured of them."""
        keys = [*self.metrics, *self.test, *(key for one in self.trials for key in one.figures)]
        return any(key.rpartition("/")[2] == "map" for key in keys)

    def ranked(self) -> list[TrialRecord]:
        """Complete trials with a finite first metric, best first; see `src.records.ties`."""
        judged = [t for t in self.trials if t.objectives is not None and t.value is not None]
        return sorted(judged, key=lambda t: t.place(self.directions[0]))


def _mean(values: Collection[float]) -> float | None:
    """Return the mean to the digits that count; None of nothing."""
    return round(sum(values) / len(values), MEAN_DIGITS) if values else None
