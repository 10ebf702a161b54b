"""One start of a sweep: measure families, race their trials, train finalists, and record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..config.checks import ConfigError, input_of, to_plain
from ..config.compose import read_run_settings
from ..config.models import NetworkSettings
from ..config.overrides import by_key, value_of
from ..config.sweep import SweepSettings
from ..machine.cpu_load import slowdown
from ..machine.failures import RunFailed
from ..machine.interruption import Interrupted, Interruption
from ..machine.package import PACKAGE
from ..machine.parallel import available_cores
from ..machine.status import doing
from ..machine.text import counted
from ..records.trials import PRUNED, RUNNING, SweepRecord
from ..reporting.formatting import duration
from ..search.driver import Driver, TooManyFailures
from ..search.jobs import Engine, WorkersFail
from ..search.pool import Pool
from ..search.space import Family, Value
from ..search.study import StudyBusy
from ..search.workers.local import LocalEngine
from ..search.workers.slots import refuse_machine, slots, visible_gpus
from ..targets import kind_of
from ..tracking.spool import writer_lock
from .clock import Clock
from .display import Display
from .families import default_values, trial_overrides
from .finalists import Finals
from .finals_time import FinalsTime
from .live_page import LivePage
from .minimal_trial import minimal_trial
from .parent_run import ParentRun
from .prepare import Preparation
from .prepared import PREPARED, keep_without_trial
from .race_rules import RaceRules
from .reduction import Reduction
from .short_budget import (
    describe_single_family,
    explain_no_family,
    families_without_time,
    first_enough,
    next_affordable_family,
)
from .study_pictures import (
    check_pictures,
    shorter_side,
)
from .sweep_study import (
    ROUGH,
    SECOND,
    changed_proposals,
    metric_line,
    record_of,
    spent,
    steps_of,
)
from .tasks import SweepJobs

__all__ = ["Race"]

_RUNNER = f"{PACKAGE}.sweeps.run_job:TrialRunner"
# Imported before the runner where networks race, and not in the time of the first of them: half of
# what such a worker imports is Lightning.
_OF_NETWORKS = f"{PACKAGE}.runs.candidates.network"


class Race:
    """One start of a sweep; the study is open, and the handler of signals installed.

    Args:
        jobs: of the sweep, with its settings, study and families; none is prepared yet.
        parent: the run of the sweep.
        remark: shown once no setting is refused any more; "" for none.
    """

    def __init__(
        self, jobs: SweepJobs, parent: ParentRun, interruption: Interruption, remark: str
    ) -> None:
        self._jobs = jobs
        self._settings, self._study = jobs.settings, jobs.study
        self._families, self._prepared = jobs.families, jobs.prepared
        self._parent = parent
        self._interruption = interruption
        self._remark = remark
        settings, study = self._settings, self._study
        minutes = settings.budget.minutes
        self._clock = Clock(
            None if minutes is None else 60 * minutes,
            finals=bool(settings.finalists),
            earlier=spent(study),
            note=partial(study.remember, "spent"),
        )
        self._display = Display(
            metric=settings.metrics[0],
            families=list(self._families),
            sets=kind_of(settings.data.target).sets,
            best=study.best(),
            steps=steps_of(settings),
        )
        page = LivePage(parent.page, self.record, self._display.show)
        self._observers = self._display, parent, page

    def run(self) -> SweepRecord:
        """Run the sweep from the first trial to the winner, and return its record.

        Raises:
            ConfigError: the input is wrong.
            Interrupted: Ctrl-C or SIGTERM; the same command resumes the study.
            RunFailed: the sweep cannot continue.
            StudyBusy: another process has taken the study.
        """
        study, interruption = self._study, self._interruption
        over = study.recall("over")
        ended = over == self._target() and self._parent.is_written
        if not ended:
            self._set_up()
        for remark in filter(None, (self._remark, changed_proposals(study, self._settings, ended))):
            print(remark, flush=True)
        if ended:
            return self.record()
        status, reason = "FAILED", None
        try:
            with self._display:
                self._run_trials(again=over is not None)
                self._finals()
                status = "FINISHED"
        except Interrupted as stop:
            status, reason = "KILLED", str(stop)
            raise
        except (ConfigError, StudyBusy) as error:
            reason = str(error)
            raise
        except (TooManyFailures, WorkersFail) as error:
            logs = self._parent.folder / "workers"
            reason = f"{str(error).rstrip('.')}; each worker's output is in {logs}"
            raise RunFailed(reason) from error
        finally:
            with doing("ending the workers"):
                self._pool.close()
            record = None
            if not interruption.insisted:
                with suppress(StudyBusy):  # its storage does not answer
                    self._clock.settle()
                    record = self.record()
            self._clock.ended("finalists and the test part")
            self._parent.finish(status, reason, record)
        self._clock.ended("figures, pages and MLflow")
        if overrun := self._clock.overrun():
            self._display.show(overrun)
        with suppress(StudyBusy):  # killed before, too: the next start writes all of it again
            study.remember("over", self._target())
        return record or self.record()

    def _set_up(self) -> None:
        """Make the jobs and the pool, whose workers do not start yet; raises as `run`."""
        settings, study = self._settings, self._study
        with doing("checking that the pictures are those of the study"):
            check_pictures(settings, study)
        if settings.workers.engine == "local":
            refuse_machine(settings.trainer.accelerator)
        runner = _runner_of(self._families.values(), self._jobs.base)
        engine, threads = _engine_of(settings, self._parent.folder / "workers", runner)
        if settings.runtime.threads in ("auto", None):
            base = [*self._jobs.base, f"runtime.threads={threads}"]
            self._jobs = replace(self._jobs, base=base)
        self._pool = Pool(engine)
        self._finals_time = FinalsTime(self._jobs, self._clock, self._pool.size)

    def _run_trials(self, *, again: bool) -> None:
        """Start the workers, measure the families, and run all trials.

        Args:
            again: whether an earlier start has ended all that it was to do.
        """
        study, show = self._study, self._display.show
        if lost := self._parent.remark_on_lost(len(study.trials())):
            show(lost)
        self._parent.open(show)
        if not again:
            show(metric_line(self._settings, [*study.spec.metrics.values()]))
        self._interruption.defer(True)
        self._display.doing(f"starting {counted(self._pool.size, 'worker')}")
        self._pool.start()
        begun = len(study.trials())
        why = self._race(self._prepare())
        keep_without_trial(study, why)
        if again and len(study.trials()) == begun:
            show(f"no further trial, {begun:,} so far: {why}")
        else:
            self._describe_end(why)
        self._run_minimal_trial()
        self._clock.ended("measuring families and for trials")

    def _upkeep(self) -> None:
        """Keep the lock of the study and record the time spent; called repeatedly."""
        self._study.renew_claim()
        self._clock.tick()

    def _check(self) -> None:
        """Do what `_upkeep` does, draw the display, and raise if a signal has arrived."""
        self._upkeep()
        self._display.go_on()
        self._interruption.check()

    def _prepare(self) -> int | None:
        """Measure the families and enqueue their default configurations.

        Returns:
            the number of trials of the study, None for no limit: that of the budget, or more where
            families became affordable after its trials were used up.
        """
        trials, found = self._settings.budget.trials, self._prepared
        reduction = Reduction(
            self._pool,
            self._clock,
            self._jobs,
            check=self._check,
            doing=self._display.doing,
            further=self._finals_time.further,
        )
        preparation = Preparation(reduction, self._display.show)
        for name in preparation.run():
            self._enqueue(name)
            self._race(len(self._study.trials()) + 1, name)
        if not self._jobs.ready:
            minutes, finals = self._settings.budget.minutes, bool(self._settings.finalists)
            why = explain_no_family(found, self._families, minutes, finals)
            late = not found or any(one.is_late for one in found.values())
            if not late or not self._run_minimal_trial():
                raise RunFailed(why)
            return trials  # no other trial can finish
        self._note_next_family(reduction.sharing)
        # Published networks gain most for their time and come first, then the cheapest.
        for name in sorted(
            self._jobs.ready, key=lambda n: (not found[n].published, found[n].seconds)
        ):
            self._enqueue(name)
        begun = len(self._study.trials()) + len(preparation.newly_affordable())
        return trials if trials is None else max(trials, begun)

    def _note_next_family(self, sharing: int) -> None:
        """If only one of several families fits, show and store what a longer budget allows."""
        minutes, second, affordable = self._settings.budget.minutes, None, self._jobs.ready
        late = families_without_time(self._families, self._prepared)
        if minutes is not None and len(affordable) == 1 and late:
            second = next_affordable_family(
                late, self._prepared, self._clock, sharing, self._jobs.base
            )
            self._display.show(describe_single_family(affordable[0], minutes, second))
        self._study.remember(SECOND, second)

    def _run_minimal_trial(self) -> bool:
        """Run the minimal trial if no trial is complete; return whether one is complete then.

        A trial that an earlier start left running is resumed instead.
        """
        minutes, trials = self._settings.budget.minutes, self._study.trials()
        running = {trial.family for trial in trials if trial.state == RUNNING}
        # Failed trials would fail again, for a reason other than lack of time.
        wanted = {trial.state for trial in trials} <= {PRUNED, RUNNING}
        seconds = (
            self._clock.minimal_trial_seconds(slowdown(), again=bool(running)) if wanted else 0.0
        )
        if minutes is not None and seconds:
            begun = len(trials)
            if not running:
                side, families = shorter_side(self._settings), self._families.values()
                pixels = kind_of(self._settings.data.target).pixels
                name, values, minimal = minimal_trial(
                    families, self._jobs.base, side, self._prepared, pixels=pixels
                )
                shown = [override for override in minimal.overrides if override in minimal.cut]
                cut = ", ".join(shown) or "as it is"
                self._display.show(
                    f"no trial ends within budget.minutes={minutes:g} at the current load: the "
                    f"cheapest configuration of {name} is run ({cut}) for a rough result; a larger "
                    "budget gives a better one"
                )
                finals = bool(self._settings.finalists)
                enough = first_enough(self._prepared, self._families, minutes, finals)
                self._study.remember(ROUGH, (minutes, *enough))
                self._prepared[name] = minimal
                self._enqueue(name, values)
                running, begun = {name}, begun + 1
            self._race(begun, *running, until=self._clock.spent + seconds)
        return self._study.best() is not None

    def _race(self, trials: int | None, *families: str, until: float | None = None) -> str:
        """Run trials until the study has as many as wanted, or time is over; return the reason.

        Args:
            trials: of the study, None for no limit.
            families: of the trials to begin; all if none is named.
            until: end in seconds of the clock, instead of that of the budget.
        """
        rules = RaceRules(
            self._jobs,
            self._clock,
            self._finals_time,
            self._display.show,
            families or tuple(self._families),
            until,
        )
        driver = Driver(
            self._study,
            self._pool,
            rules,
            observers=(*self._observers, self._finals_time),
            trials=trials,
            epochs=self._settings.budget.epochs if until is None else None,
            at_once=1 if any(one.takes_turns for one in self._prepared.values()) else None,
            failure_limit=self._settings.failure_limit,
            interrupted=lambda: self._interruption.pending,
        )
        driver.race()
        self._interruption.check()
        return driver.why_over

    def _describe_end(self, why: str) -> None:
        """Show why trials end before the budget does, and what of it is kept for the finals."""
        clock, begun = self._clock, len(self._study.trials())
        if self._study.best() is None:
            return
        if clock.budget is None and begun < (self._settings.budget.trials or 0):
            self._display.show(f"trials ended after {begun:,}: {why}")
        elif clock.budget is not None and clock.left:
            kept = f"; {duration(clock.kept)} are kept for the finals" if clock.kept else ""
            spent, budget = duration(clock.spent), duration(clock.budget)
            self._display.show(f"trials ended after {spent} of {budget}: {why}{kept}")

    def _finals(self) -> None:
        Finals(
            self._pool,
            self._jobs,
            self._clock,
            self._display,
            check=self._check,
            upkeep=self._upkeep,
            observers=self._observers,
            interrupted=lambda: self._interruption.pending,
        ).run()

    def _enqueue(self, name: str, values: Mapping[str, Value] | None = None) -> None:
        """Enqueue a configuration of a family, once, so that it runs before sampled ones.

        Args:
            name: of the family.
            values: of its searched keys, which puts the trial at the head of the queue; None for
                the default configuration.
        """
        prepared = self._prepared[name].overrides
        own = values
        if own is None:  # what was chosen for the family replaces its own values
            own = default_values(self._families[name], self._jobs.base)
            chosen = by_key(prepared)
            own |= {key: value_of(chosen[key]) for key in own.keys() & chosen.keys()}
        kept: dict[str, Any] = {PREPARED: list(prepared)}
        self._study.enqueue(name, own, first=values is not None, **kept)

    def _target(self) -> dict[str, Any]:
        """Return the goal of this command; once the study has reached it, nothing is run again."""
        settings = self._settings
        return {
            "budget": to_plain(settings.budget),
            "finalists": [settings.finalists, settings.finalist_seeds],
            "test": settings.evaluate_test,
            **({"extra": settings.extra_trainings} if settings.extra_trainings else {}),
        }

    def record(self) -> SweepRecord:
        """Return the study as it stands."""
        return record_of(self._jobs)


def _runner_of(families: Iterable[Family], base: Sequence[str]) -> str:
    """Return what makes the runner of workers for these families, as `factory_of` has it."""
    models = (read_run_settings(trial_overrides(one, base, {})).model for one in families)
    trains = any(isinstance(model, NetworkSettings) for model in models)
    return f"{_OF_NETWORKS},{_RUNNER}" if trains else _RUNNER


def _engine_of(settings: SweepSettings, folder: Path, runner: str) -> tuple[Engine, int]:
    """Return the engine that runs the workers of a sweep, and the number of threads of each."""
    workers, devices = settings.workers, settings.trainer.devices
    use_gpus = settings.trainer.accelerator != "cpu"
    with input_of():
        if workers.engine == "ray":
            from ..search.workers.ray import RayEngine

            count = devices if isinstance(devices, int) else 1
            ray = RayEngine(
                workers,
                runner,
                folder,
                devices=count,
                use_gpus=use_gpus,
                written=("run_dir", "fold_dir"),
                lock_of=writer_lock,
            )
            return ray, ray.reserved.threads
        gpus = visible_gpus() if use_gpus else []
        count = devices if isinstance(devices, int) else max(1, len(gpus))
        places = slots(workers, count, gpus=gpus, cores=available_cores())
    return LocalEngine(places, runner, folder), places[0].threads
