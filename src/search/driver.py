"""The race: free slots get the next trial, reports are judged, ends are told to the study."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from src.records.trials import COMPLETE, FAILED, PRUNED, TrialRecord
from src.search.pool import Ended, Event, Noted, Pool, Reported
from src.search.study import SweepStudy
from src.search.workers.process import Ending, Job

__all__ = ["Budget", "Driver", "TooManyFailures", "Watcher"]

_MOST_ATTEMPTS = 2
_POLL_SECONDS = 0.25
_ACCOUNT_SECONDS = 10.0
# After the budget's end: until what reports nothing is asked to stop, and until its worker ends.
_LATE_SECONDS, _ABANDON_SECONDS = 1.0, 6.0
# Enough to tell a faulty sweep from bad luck.
_ENOUGH_TRIALS = 10
_ALL_FAILED = 3
_ENDED = (COMPLETE, PRUNED, FAILED)


class TooManyFailures(RuntimeError):
    """So many trials fail, or one for want of what all need, that the sweep itself is at fault."""


@dataclass(frozen=True)
class Budget:
    """When no further trial begins: at the first of these; None for no limit.

    Attributes:
        trials: in all, over all starts of the study.
        seconds: of racing, over all starts; trials still running then are stopped.
        epochs: of all trials together.
    """

    trials: int | None = None
    seconds: float | None = None
    epochs: int | None = None


class Watcher(Protocol):
    """Who looks on: the display, the records."""

    def began(self, slot: int, trial: TrialRecord, epochs: int) -> None:
        """A trial was given to a slot, for so many epochs at most."""

    def noted(self, trial: TrialRecord, facts: Mapping[str, Any]) -> None:
        """Its run exists."""

    def reported(self, slot: int, trial: int, epoch: int, value: float | None) -> None:
        """An epoch ended; the value is None if the metric is known at the end only."""

    def ended(self, slot: int, trial: TrialRecord) -> None:
        """A trial is over; `slot` is -1 if it never got one."""

    def tick(self, counts: Mapping[str, int], left: str) -> None:
        """Time went by: trials by state, and what is left of the budget."""


class Driver:
    """Runs a study's trials in a pool. Everything happens on the thread that calls `race`.

    Args:
        study: the driver alone writes to it.
        pool: started; it may have jobs of nobody else meanwhile.
        budget: when to end.
        metrics: keys of the metrics to go by, in the study's order.
        job_of: a trial's job, with its `words` and the `epochs` of the whole of it, or of each of
            its `folds` where it reports after these; asked again before every attempt, because
            what was noted of the trial may have changed.
        watcher: see `Watcher`.
        affordable: names of the families of which a whole trial ends within so many seconds; None
            for no limit.
        failure_limit: share of failed trials that ends the race, once enough have ended.
        interrupted: asked all the time; True to save and end.
    """

    def __init__(
        self,
        study: SweepStudy,
        pool: Pool,
        *,
        budget: Budget,
        metrics: tuple[str, ...],
        job_of: Callable[[TrialRecord], Job],
        watcher: Watcher,
        affordable: Callable[[float | None], frozenset[str]] | None = None,
        failure_limit: float = 0.5,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._study = study
        self._pool = pool
        self._budget = budget
        self._metrics = metrics
        self._job_of = job_of
        self._watcher = watcher
        self._affordable = affordable
        self._given_at: dict[int, float] = {}
        self._late: set[int] = set()
        self._failure_limit = failure_limit
        self._interrupted = interrupted
        # Trials that go on, each with the folder of its run, or None to begin anew.
        self._waiting: deque[tuple[TrialRecord, str | None]] = deque()
        self._lost: dict[int, int] = {}
        self._seconds_before: dict[int, float] = {}
        self._counts: Counter[str] = Counter()
        self._epochs = 0
        self._earlier_seconds = float(study.recall("seconds") or 0.0)
        self._began = time.monotonic()
        self._noted_at = self._began
        self._exhausted = False
        self._fault: TooManyFailures | None = None

    @property
    def seconds(self) -> float:
        """Of racing, over all starts."""
        return self._earlier_seconds + time.monotonic() - self._began

    def race(self) -> str:
        """Until the budget is spent, or somebody interrupts.

        Returns:
            why it ended: "finished" or "interrupted".

        Raises:
            TooManyFailures, WorkersFail: the sweep cannot go on.
        """
        self._take_up()
        stopping = False
        while True:
            if not stopping and (self._fault is not None or self._interrupted()):
                stopping = True
                self._pool.interrupt(self._pool.busy)
            if not stopping:
                self._fill()
            if not self._pool.busy and (stopping or self._nothing_left()):
                break
            for event in self._pool.events(_POLL_SECONDS):
                self._take(event, stopping)
            if not stopping:
                self._end_what_is_late()
            self._tick()
        self._keep_account()
        if self._fault is not None:
            raise self._fault
        return "interrupted" if stopping else "finished"

    def _take_up(self) -> None:
        """Go on where an earlier driver was ended."""
        for trial in self._study.trials():
            self._epochs += trial.epochs
            if trial.state in _ENDED:
                self._counts[trial.state] += 1
        # Trials whose first metric is known at their end alone have no curves to count.
        self._epochs = max(self._epochs, int(self._study.recall("epochs") or 0))
        for trial in self._study.unfinished():
            self._lost[trial.number] = int(self._study.facts(trial.number).get("lost", 0))
            self._waiting.append((trial, trial.run_dir))

    def _fill(self) -> None:
        for slot in self._pool.free():
            chosen = self._next()
            if chosen is None:
                return
            trial, run_dir = chosen
            job = {**self._job_of(trial), "number": trial.number, "resume": run_dir}
            self._study.note(trial.number, words=list(job["words"]))
            self._pool.give(slot, job)
            self._given_at[trial.number] = time.monotonic()
            self._watcher.began(slot, trial, job["epochs"])

    def _next(self) -> tuple[TrialRecord, str | None] | None:
        if self._waiting:
            return self._waiting.popleft()
        if self._spent() is not None or self._exhausted:
            return None
        families = None if self._affordable is None else self._affordable(self._seconds_left)
        if families is not None and not families:  # nothing that begins now would end in time
            self._exhausted = True
            return None
        trial = self._study.ask(families)
        if trial is None:
            self._exhausted = True
            return None
        return trial, None

    def _nothing_left(self) -> bool:
        spent = self._spent() is not None or self._exhausted
        return not self._waiting and spent

    def _spent(self) -> str | None:
        """What of the budget is used up, or None."""
        budget = self._budget
        begun = sum(self._counts[state] for state in _ENDED)
        begun += len(self._pool.busy) + len(self._waiting)
        if budget.trials is not None and begun >= budget.trials:
            return "trials"
        if budget.epochs is not None and self._epochs >= budget.epochs:
            return "epochs"
        if self._out_of_time():
            return "minutes"
        return None

    @property
    def _seconds_left(self) -> float | None:
        seconds = self._budget.seconds
        return None if seconds is None else max(0.0, seconds - self.seconds)

    def _out_of_time(self) -> bool:
        return self._budget.seconds is not None and self.seconds >= self._budget.seconds

    def _end_what_is_late(self) -> None:
        """Stop trials that go on after the budget's end because they report nothing meanwhile."""
        if self._budget.seconds is None:
            return
        over = self.seconds - self._budget.seconds
        if over > _LATE_SECONDS and (new := set(self._pool.busy) - self._late):
            self._pool.interrupt(new)
            self._late |= new
        if over > _ABANDON_SECONDS:
            for slot in self._pool.busy:
                for event in self._pool.abandon(slot):
                    self._take(event, False)

    def _take(self, event: Event, stopping: bool) -> None:
        match event:
            case Noted(facts=facts):
                self._study.note(event.job["number"], **facts)
                self._watcher.noted(self._study.trial(event.job["number"]), facts)
            case Reported(slot=slot, epoch=epoch, metrics=metrics):
                if stopping:  # a job that was just beginning may have missed it
                    self._pool.interrupt([slot])
                self._pool.answer(slot, self._judge(event.job, epoch, metrics))
                self._watcher.reported(
                    slot, event.job["number"], epoch, metrics.get(self._metrics[0])
                )
            case Ended():
                self._end(event, stopping)

    def _judge(self, job: Job, step: int, metrics: Mapping[str, float]) -> str | None:
        """Why the trial is to stop after an epoch or a fold, or None."""
        folds = job.get("folds")
        whole, name = (job["epochs"], "epochs") if folds is None else (folds, "folds")
        self._epochs += 1 if folds is None else job["epochs"]
        number = job["number"]
        value = metrics.get(self._metrics[0])
        if value is not None:
            self._study.report(number, step, value)
            judged = len(self._metrics) == 1 and step < whole
            if judged and self._study.should_prune(number):
                return f"pruned after {step} {name} at {self._metrics[0]} {value:.4g}"
        if self._out_of_time():
            return f"the time was over after {step} {name}"
        return self._too_slow(number, step, whole, name)

    def _too_slow(self, number: int, step: int, whole: int, name: str) -> str | None:
        """Why a trial that goes on as it began cannot end in time, or None."""
        left, began = self._seconds_left, self._given_at.get(number)
        if left is None or began is None or step >= whole:
            return None
        needed = (time.monotonic() - began) / step * (whole - step)
        if needed <= left:
            return None
        return (
            f"stopped after {step} {name}: the other {whole - step} would take {needed:.0f} s, and "
            f"{left:.0f} s are left"
        )

    def _end(self, event: Ended, stopping: bool) -> None:
        number, ending = event.job["number"], event.ending
        seconds = self._seconds_before.pop(number, 0.0) + event.seconds
        if ending.state == "interrupted" and stopping:
            return  # it stays running in the study, and goes on with the next start
        if event.slot in self._late and (event.died or ending.state == "interrupted"):
            event = replace(event, died=False, ending=Ending("pruned", reason="the time was over"))
            ending = event.ending
        if ending.state == "starved":  # so does this one: no other would fare better now
            self._fault = self._fault or TooManyFailures(ending.reason)
            return
        if self._deserves_another(event):
            self._seconds_before[number] = seconds
            trial = self._study.trial(number)
            self._waiting.appendleft((trial, trial.run_dir))
            return
        self._study.note(number, seconds=seconds)
        self._tell(number, ending)
        trial = self._study.trial(number)
        self._counts[trial.state] += 1
        self._watcher.ended(event.slot, trial)
        self._fault = self._fault or self._too_many_failures()

    def _deserves_another(self, event: Ended) -> bool:
        """Whether there is another attempt, of which what is different is noted."""
        number, ending = event.job["number"], event.ending
        lost = event.died or ending.state == "interrupted"
        if not lost and ending.again is None:
            return False
        self._lost[number] = self._lost.get(number, 0) + 1
        if self._lost[number] >= _MOST_ATTEMPTS:
            return False
        if ending.again is not None:  # in a run of its own
            self._study.note(number, run_id=None, run_dir=None, **ending.again)
        self._study.note(number, lost=self._lost[number])
        return True

    def _tell(self, number: int, ending: Ending) -> None:
        if ending.state == "pruned":
            self._study.pruned(number, ending.reason or "")
            return
        if ending.state != "complete":
            self._study.failed(number, ending.reason or "it ended without a word")
            return
        figures = ending.result["metrics"]
        missing = [name for name in self._metrics if name not in figures]
        objectives = [float(figures.get(name, math.nan)) for name in self._metrics]
        if missing or not all(math.isfinite(value) for value in objectives):
            named = ", ".join(missing) or ", ".join(self._metrics)
            self._study.failed(number, f"it has no finite {named}")
            return
        self._study.note(number, figures=dict(figures))
        self._study.complete(number, objectives)

    def _too_many_failures(self) -> TooManyFailures | None:
        failed = self._counts[FAILED]
        ended = sum(self._counts[state] for state in _ENDED)
        all_failed = failed == ended >= _ALL_FAILED
        if not all_failed and (ended < _ENOUGH_TRIALS or failed / ended <= self._failure_limit):
            return None
        reasons = Counter(
            trial.reason or "?" for trial in self._study.trials() if trial.state == FAILED
        )
        reason, count = reasons.most_common(1)[0]
        return TooManyFailures(
            f"{failed} of {ended} trials failed, so the sweep stops; {count} of them: {reason}"
        )

    def _tick(self) -> None:
        counts = {**self._counts, "running": len(self._pool.busy)}
        self._watcher.tick(counts, self._left())
        self._study.stay()
        if time.monotonic() - self._noted_at > _ACCOUNT_SECONDS:
            self._keep_account()

    def _keep_account(self) -> None:
        """Of what the budget limits, for the next start."""
        self._noted_at = time.monotonic()
        self._study.remember("seconds", self.seconds)
        self._study.remember("epochs", self._epochs)

    def _left(self) -> str:
        """What is left of the budget, in words."""
        budget, parts = self._budget, []
        if budget.trials is not None:
            ended = sum(self._counts[state] for state in _ENDED)
            left = max(0, budget.trials - ended)
            parts.append(f"{left} trial{'' if left == 1 else 's'}")
        if budget.epochs is not None:
            parts.append(f"{max(0, budget.epochs - self._epochs):,} epochs")
        if budget.seconds is not None:
            minutes, seconds = divmod(max(0, int(budget.seconds - self.seconds)), 60)
            parts.append(f"{minutes}:{seconds:02d}")
        return f"{', '.join(parts)} left" if parts else ""
