"""The part of a budget that is kept for the finals while trials run."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from heapq import nlargest

from ..records.trials import RUNNING, TrialRecord
from ..search.loop import Observer
from .clock import Clock
from .finalist_choice import choose_finalists
from .forecast import TimeForecast
from .prepared import PREPARED, THREADS
from .tasks import SweepJobs

__all__ = ["FinalsTime", "round_seconds", "training_seconds"]

# Seconds of the finals beside their trainings: records of each, the test part, figures and pages.
_CLOSING_SECONDS = 40.0


def training_seconds(seconds: float, prepared: Sequence[str], slots: int) -> float:
    """Return the seconds of a finalist's training in one slot; its trial may have had all cores.

    Args:
        seconds: of the trial.
        prepared: overrides of its family.
    """
    return seconds * (slots if any(one.startswith(THREADS) for one in prepared) else 1)


def round_seconds(each: Sequence[float], slots: int) -> float:
    """Return the seconds of training all finalists with one seed, given those of each training."""
    return max(sum(each) / slots, max(each, default=0.0))


class FinalsTime(Observer):
    """Sets how much of a clock's budget is kept for the finals, whenever a trial begins or ends.

    This is the time of the finalists' trainings with all seeds and `_CLOSING_SECONDS`, but no more
    than `FINALS_FRACTION` of the budget, which is kept until a trial is complete. Which trials will
    be finalists is not known: those that take longest are counted, of the finalists so far, of the
    trials that run, and of one that may begin. Only one seed is counted of a family that had no
    trial before: its first trial is worth more than further seeds.

    Args:
        jobs: of the sweep, with its study and its families.
        clock: whose `kept` is set.
        slots: number of trainings at the same time.
    """

    def __init__(self, jobs: SweepJobs, clock: Clock, slots: int) -> None:
        self._jobs, self._clock, self._slots = jobs, clock, slots
        self._most = clock.kept
        self._forecast = TimeForecast(jobs.families, jobs.prepared)
        self._complete: list[TrialRecord] = []
        self._tried: set[str] = set()  # families
        self._ranked: list[TrialRecord] = []  # complete ones, best first
        self._best: list[float] = []  # seconds of those that would be finalists now
        # Of each slot's trial, the expected seconds, and whether its family had a trial before.
        self._running: dict[int, tuple[float, bool]] = {}
        for trial in jobs.study.trials():
            self._add(trial)
        self._choose()
        self._update()

    def further(self, seconds: float, family: str) -> float:
        """Return how much more is to be kept if a trial of these seconds begins.

        0 before a trial is complete: an answer is worth more than finals.
        """
        if not self._ranked:
            return 0.0
        known = self._jobs.prepared.get(family)
        seconds = training_seconds(seconds, known.overrides if known else (), self._slots)
        return self._needed(seconds, tried=family in self._tried) - self._clock.kept

    def began(self, slot: int, trial: TrialRecord, steps: int) -> None:
        seconds = self._forecast.expected(trial, self._complete)
        self._running[slot] = self._training(trial, seconds), trial.family in self._tried
        self._tried.add(trial.family)
        self._update()

    def freed(self, slot: int) -> None:
        self._running.pop(slot, None)
        self._update()

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        self._add(trial)
        self._choose()
        self._update()

    def _training(self, trial: TrialRecord, seconds: float) -> float:
        prepared = self._jobs.study.facts(trial.number).get(PREPARED, ())
        return training_seconds(seconds, prepared, self._slots)

    def _add(self, trial: TrialRecord) -> None:
        if trial.state != RUNNING:
            self._tried.add(trial.family)
        if trial.objectives is None or trial.seconds is None:
            return
        self._complete.append(trial)
        direction = self._jobs.settings.directions[0]
        insort(self._ranked, trial, key=lambda one: one.place(direction))

    def _choose(self) -> None:
        finalists = choose_finalists(self._ranked, self._jobs)
        self._best = [self._training(one, one.seconds or 0.0) for one in finalists]

    def _update(self) -> None:
        best, running = self._best, self._running.values()
        self._longest = self._cut([*best, *(seconds for seconds, _ in running)])
        self._longest_tried = self._cut([*best, *(seconds for seconds, tried in running if tried)])
        if self._ranked:
            self._clock.kept = self._needed()

    def _needed(self, *begins: float, tried: bool = True) -> float:
        """Return the seconds to keep if a trial begins as well, of a family with or without one."""
        all_seeds = self._cut([*self._longest_tried, *(begins if tried else ())])
        one_seed = self._cut([*self._longest, *begins])
        trainings = max(
            self._jobs.settings.finalist_seeds * round_seconds(all_seeds, self._slots),
            round_seconds(one_seed, self._slots),
        )
        return min(self._most, _CLOSING_SECONDS + trainings)

    def _cut(self, each: Sequence[float]) -> list[float]:
        """Return the longest of some trainings, as many as there are finalists."""
        return nlargest(self._jobs.settings.finalists, each)
