"""Divide the time of a sweep between measuring families, trials and finalists."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..reporting.formatting import duration

__all__ = [
    "CHEAP_TRIAL_FRACTION",
    "DESCRIBING_FRACTION",
    "FINALS_FRACTION",
    "FIRST_TRIAL_FRACTION",
    "TRIALS_FRACTION",
    "Clock",
    "TimeShare",
]

# Largest fraction of the budget that is kept for the finals.
FINALS_FRACTION = 0.3
# Fraction of the race's time that measuring families must leave to trials. With half of it, on
# photos in five minutes, hand-crafted features and a cnn were measured after embeddings, their
# trials did not finish, and one embedding was tried instead of ten.
TRIALS_FRACTION = 0.4
# Fractions of the time for trials: of a family's first trial at most, of measuring before it, while
# nothing else runs, and of describing pictures by frozen networks, which gain most for their time.
FIRST_TRIAL_FRACTION, _MEASURING_FRACTION, DESCRIBING_FRACTION = 0.5, 0.35, 0.65
# Fraction of the time left for a trial of hand-crafted features while other trials wait.
CHEAP_TRIAL_FRACTION = 0.25
# Fraction of all time left, that of finalists included, for a trial of an only family that would be
# cut short otherwise: one long training is worth more than several short ones.
_ONLY_FAMILY_FRACTION = 0.7
# If there is no time for so many trainings, the first one gets a limit of this fraction of the time
# left at its start; the rest is for its last validation and for the test part.
_MIN_TRAININGS, _LIMIT_FRACTION = 2, 0.85
# Fraction of all time left by which describing may exceed its own before it is given up, as where
# other programs run or even the least takes longer: the first trial may use the finalists' time.
# The second value is for an only family, which has no others to leave time to.
_LATE_FRACTION, _ONLY_FAMILY_LATE_FRACTION = 0.2, 0.3
# A family that was reduced to fit is measured again if there is so many times as much time.
_CLEARLY_MORE = 1.25
_NOTE_SECONDS = 5.0
# By how much the first result may exceed the budget, as a fraction of it, and at least in seconds:
# a late result is better than none.
_LATE_RESULT_FRACTION, _MIN_LATE_SECONDS = 0.25, 15.0
# Time of the minimal trial after that: a fraction of the budget, at least so many seconds, or as
# many CPU seconds as it takes to open thousands of pictures first, but at most so many budgets.
_MINIMAL_TRIAL_FRACTION, _MINIMAL_TRIAL_SECONDS = 0.5, 30.0
_MINIMAL_TRIAL_CPU_SECONDS, _MINIMAL_TRIAL_BUDGETS = 15.0, 3.0
# Fraction of the budget by which a sweep may take longer without reporting it.
_OVERRUN_FRACTION = 0.05


@dataclass(frozen=True)
class TimeShare:
    """Seconds that a family may take, None for no limit.

    Attributes:
        measuring: of choosing networks and describing pictures, while nothing else runs.
        late_by: by which describing may exceed `measuring` before it is given up.
        trial: of its first trial.
        left: time left, of which the others are fractions.
    """

    measuring: float | None = None
    late_by: float = 0.0
    trial: float | None = None
    left: float | None = None


class Clock:
    """Counts the seconds of a sweep over all its starts, without the pauses between them.

    Args:
        budget: seconds in all; None for no limit.
        finals: whether some of the budget is kept for finals.
        earlier: seconds that earlier starts took.
        note: called with the seconds so far, every few seconds.
        now: seconds of a monotonic clock.

    Attributes:
        budget: as given.
        race: seconds of the budget in which trials may run if the finals take their largest
            fraction of it; None for no limit.
        kept: seconds of the budget that are kept for the finals: that fraction, until `FinalsTime`
            expects less.
    """

    def __init__(
        self,
        budget: float | None,
        *,
        finals: bool,
        earlier: float,
        note: Callable[[float], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self.kept = FINALS_FRACTION * finals * (budget or 0.0)
        self.race = None if budget is None else budget - self.kept
        self._earlier = earlier
        self._note = note
        self._now = now
        self._began = now()
        self._noted = 0.0
        self._ends: list[tuple[str, float]] = []

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return self._earlier + self._now() - self._began

    @property
    def race_left(self) -> float | None:
        """Seconds of `race` that are left; None for no limit."""
        return None if self.race is None else max(0.0, self.race - self.spent)

    def time_left(self, answered: bool) -> float | None:
        """Return the seconds in which trials may still begin; None for no limit.

        Args:
            answered: whether a trial is complete. Before that, trials have the finalists' time as
                well.
        """
        left = self.left
        return left if left is None or not answered else max(0.0, left - self.kept)

    def time_to_end(self, answered: bool) -> float | None:
        """Return the seconds until running trials are stopped; None for no limit.

        Args:
            answered: whether a trial is complete. Before that, trials may exceed the budget a bit.
        """
        return self.time_left(True) if answered else self._left_for_a_late_result

    def finals_to_end(self, answered: bool) -> float | None:
        """Return the seconds until trainings of finalists are stopped; None for no limit.

        Args:
            answered: whether one of them is complete. Before that there is no limit.
        """
        return self._left_for_a_late_result if answered else None

    @property
    def _left_for_a_late_result(self) -> float | None:
        if self.budget is None:
            return None
        late = max(_LATE_RESULT_FRACTION * self.budget, _MIN_LATE_SECONDS)
        return max(0.0, self.budget + late - self.spent)

    def minimal_trial_seconds(self, slower: float, *, again: bool = False) -> float:
        """Return the seconds of the minimal trial, which runs where no other trial was completed.

        0 without a budget, and if earlier starts have used up the budget.

        Args:
            slower: wall-clock seconds that a thread takes for a CPU second at the moment.
            again: whether a trial that an earlier start left running is resumed.
        """
        if self.budget is None or (self._earlier > self.budget and not again):
            return 0.0
        needed = max(_MINIMAL_TRIAL_FRACTION * self.budget, _MINIMAL_TRIAL_CPU_SECONDS * slower)
        return max(_MINIMAL_TRIAL_SECONDS, min(needed, _MINIMAL_TRIAL_BUDGETS * self.budget))

    @property
    def trials_wait(self) -> bool:
        """Whether further measuring would take time that is reserved for trials."""
        left = self.race_left
        return left is not None and self.race is not None and left < TRIALS_FRACTION * self.race

    @property
    def left(self) -> float | None:
        """Seconds that are left of the whole budget; None for no limit."""
        return None if self.budget is None else max(0.0, self.budget - self.spent)

    def share(self, ready: bool, *, describes: bool = False, only: bool = False) -> TimeShare:
        """Return the time that the next family may take.

        Args:
            ready: whether trials of another family can begin. If none can, though the time for
                measuring is over, the finalists' time is used as well.
            describes: whether it is a family of frozen networks.
            only: whether it is the only family, and none of frozen networks.
        """
        left = self.left if self.trials_wait and not ready else self.race_left
        if left is None:
            return TimeShare()
        part = DESCRIBING_FRACTION if describes else _MEASURING_FRACTION
        late = _ONLY_FAMILY_LATE_FRACTION if only else _LATE_FRACTION
        until = self.time_left(ready) or 0.0
        measuring = part * (until if ready else left)
        trial = self.only_family_seconds if only else FIRST_TRIAL_FRACTION * left
        return TimeShare(measuring, (part + late) * until - measuring, trial, left)

    @property
    def only_family_seconds(self) -> float:
        """Seconds of the first trial of an only family."""
        return _ONLY_FAMILY_FRACTION * (self.left or 0.0)

    def first_limit(self, seconds: float, *, only: bool) -> float | None:
        """Return the limit in seconds of the study's first trial; None if it needs none.

        Args:
            seconds: that the trial is expected to take.
            only: whether its family is the only one. If there is no time for a second trial of it,
                the first one gets the finalists' time as well: several short ones are worth less.
        """
        left = self.race_left if only else self.left
        if left is None or not self.left or _MIN_TRAININGS * seconds <= left:
            return None
        return _LIMIT_FRACTION * self.left

    def has_more(self, limit: float | None) -> bool:
        """Return whether there is clearly more time than the limit that a family was reduced to."""
        left = self.race_left
        return limit is not None and (left is None or left > _CLEARLY_MORE * limit)

    def tick(self) -> None:
        """Record the seconds so far every few seconds; to be called repeatedly."""
        if self.spent - self._noted > _NOTE_SECONDS:
            self.settle()

    def settle(self) -> None:
        """Record the seconds so far."""
        self._noted = self.spent
        self._note(self._noted)

    def ended(self, what: str) -> None:
        """Record that a part of the sweep ends now, for `overrun`."""
        self._ends.append((what, self.spent))

    def overrun(self) -> str:
        """Return a sentence on what exceeded the budget; "" if that is little."""
        budget, spent = self.budget, self.spent
        if budget is None or spent <= (1 + _OVERRUN_FRACTION) * budget:
            return ""
        parts, begin = [], self._earlier
        for what, end in self._ends:
            beyond = end - max(begin, budget)
            parts += [f"{duration(beyond)} for {what}"] if beyond >= 1 else []
            begin = end
        took = f"the sweep took {duration(spent)} instead of {duration(budget)}"
        return f"{took}: beyond its budget, {', '.join(parts)}" if parts else took
