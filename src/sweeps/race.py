"""Run a sweep: read the families, open the study, start workers, race, train finalists, record."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..config.checks import ConfigError, input_of, not_written, to_plain
from ..config.compose import effective_overrides, leaves
from ..config.overrides import by_key, override_of, value_of
from ..config.sweep import SweepSettings, base_overrides, read_sweep_settings
from ..data.sources.costs import CostTable
from ..data.splitting.test_usage import refuse_uncountable
from ..machine.cpu_load import slowdown
from ..machine.disk import refusal, refusal_of_folder
from ..machine.failures import RunFailed, explained
from ..machine.interruption import Interrupted, Interruption
from ..machine.package import PACKAGE, command
from ..machine.parallel import available_cores
from ..machine.status import doing
from ..machine.text import counted
from ..records.trials import PRUNED, RUNNING, SweepRecord, TrialRecord
from ..reporting.formatting import duration, metric_text
from ..search.driver import Driver, TooManyFailures
from ..search.jobs import Engine, Job, WorkersFail
from ..search.pool import Pool
from ..search.samplers import check_sampler
from ..search.space import Family, Kind, Value
from ..search.study import StudyBusy, StudyChanged, SweepStudy
from ..search.workers.local import LocalEngine
from ..search.workers.slots import refuse_machine, slots, visible_gpus
from ..targets import kind_of
from ..tracking.addresses import without_password
from ..tracking.spool import writer_lock
from .clock import Clock
from .display import Display
from .earlier_command import keep_command, shorter_command
from .families import default_values, load_families
from .finalists import Finals
from .finals_time import FinalsTime
from .forecast import TimeForecast
from .minimal_trial import minimal_trial
from .parent_run import ParentRun
from .prepare import Preparation
from .prepared import PREPARED, Prepared, keep_without_trial
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
    checked_costs,
    choose_families,
    describe_judging,
    shorter_side,
)
from .sweep_study import (
    CLOSED,
    ROUGH,
    SECOND,
    metric_line,
    record_of,
    resuming_command,
    spent,
    steps_of,
    study_spec,
)
from .tasks import SweepJobs, limit_of

__all__ = ["run_sweep"]

# Key in a study of the settings of the sampler and the pruner of its last start.
_PROPOSALS = "proposals"
_RUNNER = f"{PACKAGE}.sweeps.run_job:TrialRunner"


class _Race:
    """One start of a sweep; the study is open, and the handler of signals installed.

    Args:
        remark: shown once no setting is refused any more; "" for none.
    """

    def __init__(
        self,
        settings: SweepSettings,
        command: str,
        study: SweepStudy,
        *,
        families: Sequence[Family],
        base: Sequence[str],
        costs: CostTable | None,
        interruption: Interruption,
        remark: str,
    ) -> None:
        self._settings = settings
        self._study = study
        self._families = {family.name: family for family in families}
        self._base = tuple(base)
        self._costs = costs
        self._interruption = interruption
        self._remark = remark
        self._folder = settings.study_folder
        self._prepared: dict[str, Prepared] = {}
        self._closed: Mapping[str, str] = study.recall(CLOSED) or {}
        minutes = settings.budget.minutes
        self._clock = Clock(
            None if minutes is None else 60 * minutes,
            finals=bool(settings.finalists),
            earlier=spent(study),
            note=partial(study.remember, "spent"),
        )
        self._parent = ParentRun(settings, study, self._folder, command)
        self._display = Display(
            metric=settings.metrics[0],
            families=list(self._families),
            sets=kind_of(settings.data.target).sets,
            best=study.best(),
            steps=steps_of(settings),
        )

    def run(self) -> SweepRecord:
        """Run the sweep from the first trial to the winner; raises as `run_sweep`."""
        study, interruption = self._study, self._interruption
        over = study.recall("over")
        ended = over == self._target() and self._parent.is_written
        if not ended:
            self._set_up()
        for remark in filter(None, (self._remark, self._changed_proposals(ended))):
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
            reason = (
                f"{str(error).rstrip('.')}; each worker's output is in {self._folder / 'workers'}"
            )
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
        """Make the jobs and the pool, whose workers do not start yet; raises as `run_sweep`."""
        settings, study = self._settings, self._study
        with doing("checking that the pictures are those of the study"):
            check_pictures(settings, study)
        if settings.workers.engine == "local":
            refuse_machine(settings.trainer.accelerator)
        engine, threads = _engine_of(settings, self._folder / "workers")
        if settings.runtime.threads in ("auto", None):
            self._base = (*self._base, f"runtime.threads={threads}")
        self._jobs = SweepJobs(
            settings=settings,
            study=study,
            families=self._families,
            base=self._base,
            prepared=self._prepared,
            parent_run_id=self._parent.run_id,
            costs=self._costs,
        )
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
            show(metric_line(self._settings, study.spec.metric_names or self._settings.metrics))
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
            second = next_affordable_family(late, self._prepared, self._clock, sharing, self._base)
            self._display.show(describe_single_family(affordable[0], minutes, second))
        self._study.remember(SECOND, second)

    def _trial(self, trial: TrialRecord) -> Job:
        """Return the job of a trial; the only one that fits gets a limit of its training time."""
        changes = self._study.facts(trial.number).get("changes")
        found = self._jobs.prepared_of(trial)
        if changes is None and limit_of(self._base) is None and self._study.best() is None:
            seconds = self._clock.first_limit(found.seconds, only=len(self._families) == 1)
            limit = f"trainer.max_time={max(1, round((seconds or 0.0) / found.trainings))}"
            # Only networks, which train in epochs, have a limit of their time.
            if seconds and effective_overrides([limit], self._families[trial.family].overrides):
                self._study.note(trial.number, changes=[limit])
        return self._jobs.trial(trial)

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
                    families, self._base, side, self._prepared, pixels=pixels
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
        clock = self._clock

        def time_left(answered: bool) -> float | None:
            return clock.time_left(answered) if until is None else until - clock.spent

        raced = {name: self._families[name] for name in families or self._families}
        one_machine = self._settings.workers.engine == "local"
        forecast = TimeForecast(raced, self._prepared, one_machine)

        def affordable(
            left: float | None, took: Sequence[TrialRecord], beside: Sequence[TrialRecord]
        ) -> list[Kind]:
            limit = left if until is None else None  # nothing takes less than the minimal trial
            return forecast.affordable(limit, took, beside, further=self._finals_time.further)

        driver = Driver(
            self._study,
            self._pool,
            metrics=self._settings.metrics,
            metric_text=metric_text,
            job_of=self._trial,
            observers=(self._display, self._parent, self._finals_time),
            is_current=self._jobs.is_current,
            affordable=affordable,
            closed=partial(self._close, forecast),
            trials=trials,
            epochs=self._settings.budget.epochs if until is None else None,
            at_once=1 if any(one.takes_turns for one in self._prepared.values()) else None,
            time_left=time_left,
            time_to_end=clock.time_to_end if until is None else None,
            upkeep=self._upkeep,
            failure_limit=self._settings.failure_limit,
            interrupted=lambda: self._interruption.pending,
        )
        driver.race()
        self._interruption.check()
        return driver.why_over

    def _close(self, forecast: TimeForecast, judged: Sequence[TrialRecord]) -> dict[str, str]:
        """Return the families of which no further trial is proposed, each with the reason.

        With several metrics, of which the first alone is not what a trial is for, there is none.
        A number of trials that was asked for is not cut short by what is saturated.
        """
        if len(self._settings.metrics) > 1:
            return {}
        metric, direction = self._settings.metrics[0], self._settings.directions[0]
        closed = forecast.behind(judged, direction, metric)
        for name in closed.keys() - self._closed.keys():
            self._display.show(f"{name}: no further trial: {closed[name]}")
        if self._settings.budget.trials is None:
            why = "its latest trials were no better than earlier ones"
            closed = dict.fromkeys(forecast.saturated(judged, direction), why) | closed
        # A race of some families alone says nothing of the others.
        known = {n: why for n, why in self._closed.items() if n not in forecast.families} | closed
        if known != self._closed:
            self._closed = known
            self._study.remember(CLOSED, known)
        return closed

    def _changed_proposals(self, ended: bool) -> str | None:
        """Return a sentence on settings of sampler and pruner that the last start had not; or None.

        They may differ from start to start: each concerns the trials that are yet to come. An
        `ended` study has none, and keeps those that it had.
        """
        settings, study = self._settings, self._study
        kinds = {"sampler": settings.sampler, "pruner": settings.pruner}
        now = leaves({kind: to_plain(one) for kind, one in kinds.items()})
        known = study.recall(_PROPOSALS)
        changed = [
            f"{override_of(key, now[key])} (so far {known[key]})"
            for key in now.keys() & (known or {}).keys()
            if now[key] != known[key]
        ]
        if not ended and known != now:
            study.remember(_PROPOSALS, now)
        if not changed or not study.trials():
            return None
        shown = ", ".join(sorted(changed))
        if ended:
            return (
                f"the study {settings.study} has ended, so this has no effect: {shown}. Set a "
                "larger budget for further trials, or begin a new study with study=NAME"
            )
        return f"for trials from now on alone: {shown}; study=NAME begins a new study with it"

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
            observers=(self._display, self._parent),
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
            own = default_values(self._families[name], self._base)
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
        return record_of(
            self._study, self._settings, tuple(self._families), self._base, self._costs
        )


def run_sweep(settings: SweepSettings, overrides: Sequence[str], config_name: str) -> SweepRecord:
    """Run or resume a study, and return its record.

    Args:
        settings: as `read_sweep_settings` makes them of the other arguments.
        overrides: of the command line.
        config_name: name of a file in sweeps/.

    Raises:
        ConfigError: the input is wrong, or the study was begun with other settings.
        Interrupted: Ctrl-C or SIGTERM; the same command resumes the study.
        RunFailed: the sweep cannot continue.
    """
    if settings.workers.engine == "local" and not settings.study_folder.exists():
        refuse_machine(settings.trainer.accelerator)
    if reason := refusal_of_folder(Path(settings.output_dir).absolute()):
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {reason}.")
    if settings.evaluate_test:
        refuse_uncountable(Path(settings.output_dir))
    costs = checked_costs(settings)
    chosen_overrides = list(overrides)
    if isinstance(settings.families, str):
        chosen = choose_families(settings, overrides)
        remark = chosen.reason
        chosen_overrides += chosen.overrides
        if chosen.overrides:
            settings = read_sweep_settings(chosen_overrides, config_name)
        settings = replace(settings, families=list(chosen.names))
    else:
        remark = describe_judging(settings, overrides)
    base = base_overrides(chosen_overrides, config_name)
    with doing("reading the search spaces"):
        families = load_families(list(settings.families), base, settings.search)
    line = command("sweep", "--config-name", config_name, *overrides)
    study = _opened_study(settings, families, base, costs)
    with study, Interruption() as interruption:
        try:
            with explained(settings.study_folder):
                keep_command(settings.study_folder, overrides, config_name)
            return _Race(
                settings,
                line,
                study,
                families=families,
                base=base,
                costs=costs,
                interruption=interruption,
                remark=remark,
            ).run()
        except Interrupted:
            with suppress(OSError, ValueError):  # the terminal went away
                again = shorter_command(settings) or line
                print(f"resume with: {without_password(again)}", file=sys.stderr, flush=True)
            raise
        except StudyBusy as error:
            raise RunFailed(str(error)) from error


def _opened_study(
    settings: SweepSettings,
    families: Sequence[Family],
    base: Sequence[str],
    costs: CostTable | None,
) -> SweepStudy:
    """Begin the study, or open the one that was begun; raises as `run_sweep`."""
    try:
        check_sampler(settings.sampler.name, families, len(settings.metrics))
        spec = study_spec(settings, families, base, costs)
        return SweepStudy(settings.study_folder, spec, settings.storage)
    except StudyChanged as error:
        # It names the table of costs, which may be what has changed.
        earlier = None if costs is not None else resuming_command(settings, error.begun)
        going_on = "take the old settings"
        if earlier is not None:
            going_on = f"resume it: {without_password(earlier)}"
        raise ConfigError(f"{error}. Begin a new one with study=NAME, or {going_on}") from error
    except ValueError as error:  # StudyBusy as well
        raise ConfigError(f"{str(error).rstrip('.')}.") from error
    except OSError as error:
        reason = refusal(error, settings.study_folder) or str(error)
        raise not_written(error, f"the study cannot be kept: {reason}.") from error


def _engine_of(settings: SweepSettings, folder: Path) -> tuple[Engine, int]:
    """Return the engine that runs the workers of a sweep, and the number of threads of each."""
    workers, devices = settings.workers, settings.trainer.devices
    use_gpus = settings.trainer.accelerator != "cpu"
    with input_of():
        if workers.engine == "ray":
            from ..search.workers.ray import RayEngine

            count = devices if isinstance(devices, int) else 1
            ray = RayEngine(
                workers,
                _RUNNER,
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
    return LocalEngine(places, _RUNNER, folder), places[0].threads
