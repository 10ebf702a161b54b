"""What a race of a sweep goes by: its jobs, how long trials take, and how much time is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..config.compose import effective_overrides
from ..records.trials import TrialRecord
from ..reporting.formatting import metric_text
from ..search.jobs import Job
from ..search.rules import Rules
from ..search.space import Kind
from .clock import Clock
from .finals_time import FinalsTime
from .forecast import TimeForecast
from .sweep_study import CLOSED
from .tasks import SweepJobs, limit_of

__all__ = ["RaceRules"]


class RaceRules(Rules):
    """The rules of a race.

    Args:
        jobs, clock, finals_time: of the sweep.
        show: prints a line.
        names: of the families whose trials may begin.
        until: end in seconds of the clock; None for that of the budget.
    """

    def __init__(
        self,
        jobs: SweepJobs,
        clock: Clock,
        finals_time: FinalsTime,
        show: Callable[[str], None],
        names: Sequence[str],
        until: float | None = None,
    ) -> None:
        self._jobs, self._clock, self._finals_time = jobs, clock, finals_time
        self._settings, self._study = jobs.settings, jobs.study
        self._show = show
        self._until = until
        raced = {name: jobs.families[name] for name in names}
        one_machine = self._settings.workers.engine == "local"
        self._forecast = TimeForecast(raced, jobs.prepared, one_machine)
        self._closed: Mapping[str, str] = self._study.recall(CLOSED) or {}

    def job(self, trial: TrialRecord) -> Job:
        """Return the job of a trial; the only one that fits gets a limit of its training time."""
        jobs, study = self._jobs, self._study
        changes = study.facts(trial.number).get("changes")
        if changes is None and limit_of(jobs.base) is None and study.best() is None:
            found = jobs.prepared_of(trial)
            seconds = self._clock.first_limit(found.seconds, only=len(jobs.families) == 1)
            limit = f"trainer.max_time={max(1, round((seconds or 0.0) / found.trainings))}"
            # Only networks, which train in epochs, have a limit of their time.
            if seconds and effective_overrides([limit], jobs.families[trial.family].overrides):
                study.note(trial.number, changes=[limit])
        return jobs.trial(trial)

    def is_current(self, trial: TrialRecord) -> bool:
        return self._jobs.is_current(trial)

    def affordable(
        self, seconds: float | None, took: Sequence[TrialRecord], beside: Sequence[TrialRecord]
    ) -> list[Kind]:
        limit = seconds if self._until is None else None  # nothing takes less than what runs then
        return self._forecast.affordable(limit, took, beside, further=self._finals_time.further)

    def closed(self, judged: Sequence[TrialRecord]) -> dict[str, str]:
        """Return the families of which no further trial is proposed, each with the reason.

        With several metrics, of which the first alone is not what a trial is for, there is none.
        A number of trials that was asked for is not cut short by what is saturated.
        """
        if len(self._settings.metrics) > 1:
            return {}
        metric, direction = self._settings.metrics[0], self._settings.directions[0]
        closed = self._forecast.behind(judged, direction, metric)
        for name in closed.keys() - self._closed.keys():
            self._show(f"{name}: no further trial: {closed[name]}")
        if self._settings.budget.trials is None:
            why = "its latest trials were no better than earlier ones"
            closed = dict.fromkeys(self._forecast.saturated(judged, direction), why) | closed
        # A race of some families alone says nothing of the others.
        raced = self._forecast.families
        known = {n: why for n, why in self._closed.items() if n not in raced} | closed
        if known != self._closed:
            self._closed = known
            self._study.remember(CLOSED, known)
        return closed

    def time_left(self, answered: bool) -> float | None:
        if self._until is None:
            return self._clock.time_left(answered)
        return self._until - self._clock.spent

    def time_to_end(self, answered: bool) -> float | None:
        if self._until is None:
            return self._clock.time_to_end(answered)
        return self._until - self._clock.spent

    def metric_text(self, value: float) -> str:
        return metric_text(self._settings.metrics[0], value)

    def upkeep(self) -> None:
        self._clock.tick()
