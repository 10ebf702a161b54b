"""The time of a sweep, and how it is divided: for measuring families, trials and finalists."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..reporting.formatting import duration

__all__ = ["ALLOWANCE", "DESCRIBING", "FINALS_SHARE", "LITTLE", "TRIALS_SHARE", "Clock", "Share"]

# Of the budget, kept for training the finalists again.
FINALS_SHARE = 0.3
# Of what trials have, kept from the measurements that come before them. With half of that, on
# photos in five minutes, hand-crafted features and a cnn were measured in what embeddings had left,
# began and could not end, and one embedding was tried in the place of ten.
TRIALS_SHARE = 0.4
# Of the time that trials have: what the first trial of a family may take at most, and what
# choosing and describing may take before it, while nothing else runs. Frozen networks promise most
# a second, so that describing pictures by them may take more.
ALLOWANCE, _MEASURING, DESCRIBING = 0.5, 0.35, 0.65
# Where trials wait, what a try of hand-crafted features may take of the time that is left.
LITTLE = 0.25
# Of all that is left, the time for finalists included, what the trials of an only family may take
# that would be cut otherwise: one long training is worth more than several short ones.
_ALONE = 0.7
# Where there is no time for so many trainings, the first one ends itself by so much of what is left
# at its start; the rest is for its last validation and for the test part.
_SEVERAL, _ENDS_BY = 2, 0.85
# By so much more of all that is left describing may be late, where other work has come or the
# least that can be described takes longer, before all is given up: the first trial may end in the
# time that is kept for finalists. An only family has no other to leave the time to.
_LATE, _LATE_ALONE = 0.2, 0.3
# What was cut down to fit is prepared anew where there is so many times as much.
_CLEARLY_MORE = 1.25
_NOTE_SECONDS = 5.0
# Of the budget, and at least in seconds, what a first answer that is on its way may be late: a late
# answer is better than none.
_LATE_ANSWER, _LEAST_LATE = 0.25, 15.0
# What the least trial of all has after that: of the budget, or as many processor seconds as it
# takes where thousands of pictures are opened first, but no more than so many budgets.
_LAST_ANSWER, _LEAST_LAST, _LAST_WORK, _MOST_LAST = 0.5, 30.0, 15.0, 3.0
# Of the budget, that a sweep may take longer without a word.
_OVER = 0.05


@dataclass(frozen=True)
class Share:
    """Seconds that a family has, None for no limit.

    Attributes:
        measuring: for choosing and describing, while nothing else runs.
        late_by: by which describing may be late, before all is given up.
        trial: for its first trial.
        left: of which they are a part.
    """

    measuring: float | None = None
    late_by: float = 0.0
    trial: float | None = None
    left: float | None = None


class Clock:
    """Counts the seconds of a sweep from its first start on, without pauses.

    Args:
        budget: seconds in all, of which `finals` keeps a share for finalists; None for no limit.
        earlier: seconds that earlier starts took.
        note: called with the seconds so far, every few seconds.
        now: seconds of a clock that only moves forward.

    Attributes:
        budget: as given.
        race: seconds in which trials may run, of all; None for no limit.
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
        self.race = None if budget is None else budget * (1 - FINALS_SHARE * finals)
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
        """Seconds in which trials may still run; None for no limit."""
        return None if self.race is None else max(0.0, self.race - self.spent)

    def time_left(self, answered: bool) -> float | None:
        """Return the seconds that trials have; None for no limit.

        As long as none is complete, they have those of the finalists as well: a late answer is
        better than none.
        """
        return self.race_left if answered else self.left

    def time_to_end(self, answered: bool) -> float | None:
        """Return the seconds until trials that run are stopped; None for no limit.

        As long as none is complete, one that should have ended by now has some more.
        """
        if answered or self.budget is None:
            return self.time_left(answered)
        late = max(_LATE_ANSWER * self.budget, _LEAST_LATE)
        return max(0.0, self.budget + late - self.spent)

    def finals_to_end(self, answered: bool) -> float | None:
        """Return the seconds until finalists that still train are stopped; None for no limit.

        The first training of each may end late, and has no end until one of them is answered.
        """
        if not answered or self.budget is None:
            return None
        late = max(_LATE_ANSWER * self.budget, _LEAST_LATE)
        return max(0.0, self.budget + late - self.spent)

    def last_seconds(self, slower: float, *, again: bool = False) -> float:
        """Return the seconds of the least trial of all, should nothing else have answered.

        0 without a budget, and where an earlier start has spent it.

        Args:
            slower: how many times its processor time a thread takes just now.
            again: whether it goes on with that of an earlier start, which was ended meanwhile.
        """
        if self.budget is None or (self._earlier > self.budget and not again):
            return 0.0
        needed = max(_LAST_ANSWER * self.budget, _LAST_WORK * slower)
        return max(_LEAST_LAST, min(needed, _MOST_LAST * self.budget))

    @property
    def trials_wait(self) -> bool:
        """Whether measuring takes time by now that trials should have."""
        left = self.race_left
        return left is not None and self.race is not None and left < TRIALS_SHARE * self.race

    @property
    def left(self) -> float | None:
        """Seconds of the whole budget that are left; None for no limit."""
        return None if self.budget is None else max(0.0, self.budget - self.spent)

    def share(self, ready: bool, *, describes: bool = False, only: bool = False) -> Share:
        """Return what the next family may take.

        Args:
            ready: whether trials of another one can begin. Where none can, though they should have
                begun by now, the time for finalists counts.
            describes: whether it is one of frozen networks.
            only: whether it is another one, and races alone.
        """
        left = self.left if self.trials_wait and not ready else self.race_left
        if left is None:
            return Share()
        part = DESCRIBING if describes else _MEASURING
        latest = (part + (_LATE_ALONE if only else _LATE)) * (self.time_left(ready) or 0.0)
        trial = self.alone if only else ALLOWANCE * left
        return Share(part * left, latest - part * left, trial, left)

    @property
    def alone(self) -> float:
        """Seconds for the first trial of an only family."""
        return _ALONE * (self.left or 0.0)

    def first_limit(self, seconds: float, *, only: bool) -> float | None:
        """Return the seconds after which the first trial of all ends itself; None for no limit.

        It ends itself where there is hardly time for one of so many seconds. That of an `only`
        family has the time of the finalists as well where trials have none for another one:
        several short ones would be worth less.
        """
        left = self.race_left if only else self.left
        if left is None or not self.left or _SEVERAL * seconds <= left:
            return None
        return _ENDS_BY * self.left

    def has_more(self, limit: float | None) -> bool:
        """Return whether trials have clearly more time than what was cut down to a limit had."""
        left = self.race_left
        return limit is not None and (left is None or left > _CLEARLY_MORE * limit)

    def tick(self) -> None:
        """Keep account for a later start, every few seconds; to be called all the time."""
        if self.spent - self._noted > _NOTE_SECONDS:
            self.settle()

    def settle(self) -> None:
        """Keep account now."""
        self._noted = self.spent
        self._note(self._noted)

    def ended(self, what: str) -> None:
        """Note that a part of the sweep ends now, for `overrun`."""
        self._ends.append((what, self.spent))

    def overrun(self) -> str:
        """Return what took more than the budget, in a sentence; "" where that is little."""
        budget, spent = self.budget, self.spent
        if budget is None or spent <= (1 + _OVER) * budget:
            return ""
        parts, begin = [], self._earlier
        for what, end in self._ends:
            beyond = end - max(begin, budget)
            parts += [f"{duration(beyond)} for {what}"] if beyond >= 1 else []
            begin = end
        took = f"the sweep took {duration(spent)} in the place of {duration(budget)}"
        return f"{took}: beyond its budget, {', '.join(parts)}" if parts else took
