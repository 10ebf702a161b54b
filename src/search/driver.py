"""The race of trials: choose the next one, stop some early, and end when the budget is used up."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..machine.text import counted, duration
from ..records.trials import COMPLETE, FAILED, PRUNED, RUNNING, TrialRecord
from .jobs import Ending, Job, Report
from .loop import OVER, JobLoop, Observer, TooManyFailures
from .pool import Pool
from .rules import Rules
from .space import Kind
from .study import SweepStudy

__all__ = ["Driver", "TooManyFailures"]

_ACCOUNT_SECONDS = 10.0
# Fact of a trial that the pruner has stopped; others are stopped for lack of time.
_WORSE = "worse"
# Numbers of trials that distinguish a faulty sweep from bad luck.
_ENOUGH_TRIALS = 10
_ALL_FAILED = 3


class Driver(JobLoop[int]):
    """Runs a study's trials in a pool.

    Args:
        study: only the driver writes to it.
        pool, observers, interrupted, at_once: see `JobLoop`.
        trials, epochs: of all starts together, at the first of which no further trial begins; None
            for no limit.
        failure_limit: share of failed trials that ends the race, once enough have ended.

    Attributes:
        why_over: why no further trial begins, without a full stop; "" as long as any may.
    """

    def __init__(
        self,
        study: SweepStudy,
        pool: Pool,
        rules: Rules,
        *,
        observers: Sequence[Observer] = (),
        trials: int | None = None,
        epochs: int | None = None,
        at_once: int | None = None,
        failure_limit: float = 0.5,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(pool, observers, interrupted, at_once)
        self._study, self._rules = study, rules
        self._names = study.spec.metrics
        self._metrics = tuple(self._names)
        self._most_trials, self._most_epochs = trials, epochs
        self._failure_limit = failure_limit
        self._counts: Counter[str] = Counter()  # of ended trials, by state
        self._epochs = 0
        self._best: TrialRecord | None = None
        # By number, with their seconds: trials that ended, or were stopped because they would take
        # so long.
        self._took: dict[int, TrialRecord] = {}
        self._judged: list[TrialRecord] = []
        # Of running attempts: the trial, and when it began, on `time.monotonic`.
        self._began: dict[int, tuple[TrialRecord, float]] = {}
        # Of running attempts: the step, and the seconds at it, from which further steps are timed.
        self._timed_from: dict[int, tuple[int, float]] = {}
        # Trials that an earlier driver left running, and how many run or wait to.
        self._left: deque[int] = deque()
        self._open = 0
        self._tried: set[int] = set()  # numbers of trials that no further one is to repeat
        self._noted_at = time.monotonic()
        self.why_over = ""

    def race(self) -> bool:
        """Go on until the budget is spent; return whether it is, False after an interruption.

        Raises:
            TooManyFailures, WorkersFail: the sweep cannot go on.
        """
        for trial in self._study.trials():
            self._epochs += trial.epochs
            if trial.state != RUNNING:
                self._counts[trial.state] += 1
            if not _is_late(trial) and self._rules.is_current(trial):
                self._tried.add(trial.number)
            self._note_end(trial)
        # Trials whose first metric is only known at their end have no curves to count.
        self._epochs = max(self._epochs, int(self._study.recall("epochs") or 0))
        self._best = self._study.best()
        self._left.extend(trial.number for trial in self._study.unfinished(self._tried))
        self._open = len(self._left)
        try:
            spent = self.run_jobs()
        except TooManyFailures:
            self._keep_account()
            raise
        self._keep_account()
        return spent

    # Methods that `JobLoop` calls.

    def next(self) -> int | None:
        if self._left:
            return self._left.popleft()
        self.why_over = self._describe_spent()
        if self.why_over:
            return None
        kinds = self._kinds()
        if not kinds:
            self.why_over = "no further trial would end in time"
            return None
        every = all(Kind(family.name) in kinds for family in self._study.spec.families)
        closed = self._rules.closed(self._judged)
        kinds = [one for one in kinds if one.family not in closed]
        proposal = self._study.ask(kinds, self._tried) if kinds else None
        if proposal is not None:
            self._tried.add(proposal.number)
            self._open += 1
            return proposal.number
        reasons = []
        if kinds:
            others = "" if every else " that would end in time"
            reasons.append(f"there is no further configuration{others}")
        elif not every:
            reasons.append("no other trial would end in time")
        if closed:
            named = " and ".join(f"{name} ({why})" for name, why in closed.items())
            reasons.append(f"nothing better is expected of {named}")
        self.why_over = ", and ".join(reasons)
        return None

    def _kinds(self) -> Sequence[Kind]:
        """Return the kinds of trials that may begin now."""
        left = self.seconds_left()
        beside = [] if left is None else self._beside()
        kinds = self._rules.affordable(left, [*self._took.values()], beside)
        return [Kind(one.name) for one in self._study.spec.families] if kinds is None else kinds

    def _beside(self) -> list[TrialRecord]:
        """Return the running trials, with the seconds of their attempts so far."""
        now = time.monotonic()
        begun = (self._began[key] for key in self._running.values())
        return [replace(trial, seconds=now - at) for trial, at in begun]

    def seconds_left(self) -> float | None:
        return self._rules.time_left(self._best is not None)

    def seconds_to_end(self) -> float | None:
        return self._rules.time_to_end(self._best is not None)

    def job(self, key: int) -> Job:
        trial = self._study.trial(key)
        self._began[key] = trial, time.monotonic()
        job = self._rules.job(trial)
        self._study.note(key, overrides=list(job.overrides))
        self._timed_from.pop(key, None)
        return job

    def facts(self, key: int) -> Mapping[str, Any]:
        return self._study.facts(key)

    def trial(self, key: int) -> TrialRecord:
        return self._study.trial(key)

    def keep(self, key: int, facts: Mapping[str, Any]) -> None:
        self._study.note(key, **facts)
        if facts.get("run_dir", "") is None:  # another attempt has a run of its own
            self._study.begin_anew(key)

    def judge(self, key: int, job: Job, report: Report, seconds: float) -> str | None:
        step = report.step
        whole, done = job.steps, counted(step, "epoch" if job.folds is None else "fold")
        metric = self._metrics[0]
        value = report.metrics.get(metric)
        new = value is None or self._study.report(key, step, value)
        if new:
            self._epochs += 1 if job.folds is None else job.epochs
        elif job.folds is not None:  # it ended in an earlier attempt, and takes no time now
            self._timed_from[key] = (step, seconds)
        if value is not None:
            judged = len(self._metrics) == 1 and step < whole
            if judged and self._study.should_prune(key):
                self._study.note(key, **{_WORSE: True})
                text = self._rules.metric_text(value)
                return f"pruned after {done} at {self._names[metric]} {text}"
        left = self.seconds_to_end()
        if left is None or step >= whole:
            return None
        if left <= 0:
            return f"the time was over after {done}"
        # The first report takes more than a step: pictures are decoded, a head is fitted, a network
        # is compiled.
        first, before = self._timed_from.setdefault(key, (step, seconds))
        each = min(seconds, job.step_seconds or 0.0)
        if step > first:
            each = (seconds - before) / (step - first)
        needed = each * (whole - step)
        if job.seconds is not None:
            needed = min(needed, max(0.0, job.seconds - seconds))
        if needed <= left:
            return None
        self._took[key] = replace(self._study.trial(key), seconds=seconds + needed)
        return (
            f"stopped after {done}: the other {whole - step} would take {duration(needed)}, and "
            f"{duration(left)} are left"
        )

    def ended(self, key: int, slot: int, ending: Ending) -> str | None:
        self._tell(key, ending)
        self._open -= 1
        del self._began[key]
        trial = self._study.trial(key)
        self._counts[trial.state] += 1
        self._note_end(trial)
        if _is_late(trial):
            self._tried.discard(key)
        self._best = self._study.better(self._best, trial)
        for observer in self.observers:
            observer.ended(slot, trial, self._best)
        return self._too_many_failures()

    def tick(self, running: int) -> None:
        for observer in self.observers:
            observer.tick({**self._counts, "running": running}, self._describe_left())
        self._study.renew_claim()
        self._rules.upkeep()
        if time.monotonic() - self._noted_at > _ACCOUNT_SECONDS:
            self._keep_account()

    # The budget.

    def _describe_spent(self) -> str:
        """Return which limit of the race is reached; "" if none is."""
        begun, left = self._counts.total() + self._open, self.seconds_left()
        if self._most_trials is not None and begun >= self._most_trials:
            return "all trials that budget.trials allows have begun"
        if self._most_epochs is not None and self._epochs >= self._most_epochs:
            return f"all {self._most_epochs:,} epochs are used up"
        return OVER if left is not None and left <= 0 else ""

    def _keep_account(self) -> None:
        """Keep the epochs, which the budget limits, for the next start."""
        self._noted_at = time.monotonic()
        self._study.remember("epochs", self._epochs)

    def _describe_left(self) -> str:
        parts = []
        if self._most_trials is not None:
            parts.append(counted(max(0, self._most_trials - self._counts.total()), "trial"))
        if self._most_epochs is not None:
            parts.append(f"{max(0, self._most_epochs - self._epochs):,} epochs")
        if (time_left := self.seconds_left()) is not None:
            minutes, seconds = divmod(max(0, int(time_left)), 60)
            parts.append(f"{minutes}:{seconds:02d}")
        return f"{', '.join(parts)} left" if parts else ""

    def _note_end(self, trial: TrialRecord) -> None:
        if trial.state == COMPLETE or self._study.facts(trial.number).get(_WORSE):
            self._judged.append(trial)
        if (trial.state == COMPLETE or _is_late(trial)) and trial.seconds is not None:
            self._took[trial.number] = trial

    # The end of a trial.

    def _tell(self, number: int, ending: Ending) -> None:
        if ending.state == "pruned":
            self._study.pruned(number, ending.reason or "")
            return
        if ending.state != "complete":
            self._study.failed(number, ending.reason or "it ended without a reason")
            return
        figures = ending.metrics
        missing = [name for name in self._metrics if name not in figures]
        objectives = [float(figures.get(name, math.nan)) for name in self._metrics]
        if missing or not all(math.isfinite(value) for value in objectives):
            named = ", ".join(self._names[key] for key in missing or self._metrics)
            self._study.failed(number, f"it has no finite {named}")
            return
        self._study.note(number, figures=dict(figures))
        self._study.complete(number, objectives)

    def _too_many_failures(self) -> str | None:
        failed, ended = self._counts[FAILED], self._counts.total()
        all_failed = failed == ended >= _ALL_FAILED
        if not all_failed and (ended < _ENOUGH_TRIALS or failed / ended <= self._failure_limit):
            return None
        reasons = Counter(
            trial.reason or "?" for trial in self._study.trials() if trial.state == FAILED
        )
        reason, count = reasons.most_common(1)[0]
        return f"{failed} of {ended} trials failed, so the sweep stops; {count} of them: {reason}"


def _is_late(trial: TrialRecord) -> bool:
    """Return whether a trial was stopped before its first report, which is for lack of time."""
    return trial.state == PRUNED and not trial.curve
