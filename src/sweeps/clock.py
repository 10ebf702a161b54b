"""The time of a sweep: what is left of it for trials, for finalists and for measuring families."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..reporting.formatting import duration

__all__ = ["FINALS_SHARE", "TRIALS_SHARE", "Clock"]

# Of the budget, kept for training the finalists again.
FINALS_SHARE = 0.3
# Of what trials have, kept from the measurements that come before them. With half of that, on
# photos in five minutes, hand-crafted features and a cnn were measured in what embeddings had left,
# began and could not end, and one embedding was tried in the place of ten.
TRIALS_SHARE = 0.4
_NOTE_SECONDS = 5.0
# Of the budget, and at least in seconds, what a first answer that is on its way may be late: a late
# answer is better than none.
_LATE_ANSWER, _LEAST_LATE = 0.25, 15.0
# What the least trial of all has after that: of the budget, or as many processor seconds as it
# takes where thousands of pictures are opened first, but no more than so many budgets.
_LAST_ANSWER, _LEAST_LAST, _LAST_WORK, _MOST_LAST = 0.5, 30.0, 15.0, 3.0
# Of the budget, that a sweep may take longer without a word.
_LATE = 0.05


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
        if budget is None or spent <= (1 + _LATE) * budget:
            return ""
        parts, begin = [], self._earlier
        for what, end in self._ends:
            beyond = end - max(begin, budget)
            parts += [f"{duration(beyond)} for {what}"] if beyond >= 1 else []
            begin = end
        took = f"the sweep took {duration(spent)} in the place of {duration(budget)}"
        return f"{took}: beyond its budget, {', '.join(parts)}" if parts else took
