"""What a race of trials goes by that its study does not know: jobs, time, and what is worth it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from ..records.trials import TrialRecord
from .jobs import Job
from .space import Kind

__all__ = ["Rules"]


class Rules(ABC):
    """The rules of a race, asked by its driver; a subclass overrides what it needs."""

    @abstractmethod
    def job(self, trial: TrialRecord) -> Job:
        """Return the job of a trial.

        Called again before every attempt, because what was noted of the trial may have changed.
        """

    def is_current(self, trial: TrialRecord) -> bool:
        """Return whether a further trial of the same values would have the settings of this one.

        It would end as this one does, so none is proposed, unless this one was stopped for lack of
        time before its first report.
        """
        return True

    def affordable(
        self,
        seconds: float | None,
        took: Sequence[TrialRecord],
        beside: Sequence[TrialRecord],
    ) -> Sequence[Kind] | None:
        """Return the kinds of trials that end within a time limit; None for all.

        Args:
            seconds: the limit; None for none.
            took: trials that ended, the latest last, those that were stopped for lack of time with
                the seconds that they would have taken or took at least.
            beside: running trials, where there is a limit, with their seconds so far: they must end
                in it, too.
        """
        return None

    def closed(self, judged: Sequence[TrialRecord]) -> Mapping[str, str]:
        """Return the families of which no further trial begins, each with the reason.

        One would hardly be better than those that are complete, or were stopped as worse than
        others, the latest last.
        """
        return {}

    def time_left(self, answered: bool) -> float | None:
        """Return the seconds in which trials may begin and run, 0 after them; None for no limit.

        Args:
            answered: whether a trial is complete.
        """
        return None

    def time_to_end(self, answered: bool) -> float | None:
        """Return the seconds after which what still runs is stopped; None for no limit."""
        return self.time_left(answered)

    def metric_text(self, value: float) -> str:
        """Return a figure of the first metric as text."""
        return f"{value:.4g}"

    def upkeep(self) -> None:  # noqa: B027  (a race may have nothing to keep)
        """Keep what later starts must know; called all the time, what it raises ends the race."""
