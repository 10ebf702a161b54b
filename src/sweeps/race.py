"""A sweep from settings to verdict: families, study, workers, race, finals, records."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..config.checks import ConfigError, to_plain
from ..config.compose import effective_overrides
from ..config.sweep import SweepSettings, base_overrides, read_sweep_settings
from ..data.sources.costs import CostTable
from ..machine.cpu_load import slowdown
from ..machine.disk import refusal, refusal_of_folder
from ..machine.failures import RunFailed, explained
from ..machine.interruption import Interrupted, Interruption
from ..machine.package import PACKAGE, command
from ..machine.parallel import available_cores
from ..machine.status import doing
from ..records.trials import PRUNED, RUNNING, SweepRecord, TrialRecord
from ..search.driver import Driver, TooManyFailures
from ..search.jobs import Engine, Job, WorkersFail
from ..search.pool import Pool
from ..search.samplers import check_sampler
from ..search.space import Family, Value
from ..search.study import StudyBusy, StudyChanged, SweepStudy
from ..search.workers.local import LocalEngine
from ..search.workers.slots import refuse_machine, slots, visible_gpus
from ..targets import kind_of
from ..tracking.addresses import without_password
from .clock import Clock
from .display import Display
from .earlier_command import keep_command, shorter_command
from .families import default_values, load_families
from .finalists import Finals
from .first_answer import least_trial
from .forecast import Forecast
from .parent_run import ParentRun
from .pictures import check_pictures, checked_costs, choose_families, judged_by, shorter_side
from .prepare import Preparation
from .prepared import PREPARED, Prepared
from .short_budget import alone, late_families, second_family, why_none
from .sweep_study import SECOND, command_that_goes_on, record_of, spent, steps_of, study_spec
from .tasks import SweepJobs, limit_of

__all__ = ["run_sweep"]

_RUNNER = f"{PACKAGE}.sweeps.run_job:TrialRunner"


class _Sweep:
    """The parts of one sweep, joined; the study is open, and the interruption installed."""

    def __init__(
        self,
        settings: SweepSettings,
        command: str,
        study: SweepStudy,
        families: Sequence[Family],
        base: Sequence[str],
        costs: CostTable | None,
        interruption: Interruption,
    ) -> None:
        self._settings = settings
        self._study = study
        self._families = {family.name: family for family in families}
        self._base = tuple(base)
        self._costs = costs
        self._interruption = interruption
        self._folder = settings.study_folder
        self._prepared: dict[str, Prepared] = {}
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
            best=study.best(),
            steps=steps_of(settings),
        )

    def run(self) -> SweepRecord:
        """Run the sweep from the first trial to the winner; raises what `run_sweep` does."""
        settings, study, interruption = self._settings, self._study, self._interruption
        if study.recall("over") == self._target() and self._parent.is_written:
            return self.record()
        with doing("looking whether the pictures are those of the study"):
            check_pictures(settings, study)
        if settings.workers.engine == "local":
            refuse_machine(settings.trainer.accelerator)
        engine, threads = _engine_of(settings, self._folder / "workers")
        if settings.runtime.threads in ("auto", None):
            self._base = (*self._base, f"runtime.threads={threads}")
        self._jobs = SweepJobs(
            *(settings, study, self._families, self._base, self._prepared, self._parent.run_id),
            costs=self._costs,
        )
        self._pool = pool = Pool(engine)
        status, reason = "FAILED", None
        try:
            with self._display:
                if lost := self._parent.remark_on_lost(len(study.trials())):
                    self._display.show(lost)
                self._parent.open(self._display.show)
                interruption.defer(True)
                self._display.doing(f"starting the workers ({pool.size}), which load PyTorch")
                pool.start()
                trials = self._prepare()
                self._race(trials)
                self._last_answer()
                self._clock.ended("measuring families and for trials")
                self._finals()
                status = "FINISHED"
        except Interrupted as stop:
            status, reason = "KILLED", str(stop)
            raise
        except (ConfigError, StudyBusy) as error:
            reason = str(error)
            raise
        except (TooManyFailures, WorkersFail) as error:
            reason = f"{error}; each worker's output is in {self._folder / 'workers'}"
            raise RunFailed(reason) from error
        finally:
            with doing("ending the workers"):
                pool.close()
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

    def _stay(self) -> None:
        """Keep the study, and account of its time; called all the time."""
        self._study.stay()
        self._clock.tick()

    def _check(self) -> None:
        """Do so, and raise a signal that waits."""
        self._stay()
        self._display.go_on()
        self._interruption.check()

    def _prepare(self) -> int | None:
        """Find out what the families take, and enqueue their own configurations.

        Return the trials that are begun in all, None for any number: those of the budget, and one
        of each family that could not be afforded before they were spent.
        """
        trials, found = self._settings.budget.trials, self._prepared
        preparation = Preparation(
            *(self._pool, self._clock, self._jobs),
            *(self._display.show, self._check, self._display.doing),
        )
        for name in preparation.run():
            self._enqueue(name)
            self._race(len(self._study.trials()) + 1, name)
        if not preparation.ready:
            why = why_none(found, self._families, self._settings.budget.minutes)
            late = not found or any(one.is_late for one in found.values())
            if not late or not self._last_answer():
                raise RunFailed(why)
            return trials  # nothing else ends
        self._note_second(preparation.ready)
        # What promises most a second comes first, and then the cheapest.
        for name in sorted(
            preparation.ready, key=lambda n: (not found[n].published, found[n].seconds)
        ):
            self._enqueue(name)
        begun = len(self._study.trials()) + len(preparation.late())
        return trials if trials is None else max(trials, begun)

    def _note_second(self, affordable: Sequence[str]) -> None:
        """Say and keep what a longer budget lets in, where one family of several is alone."""
        minutes, second = self._settings.budget.minutes, None
        late = late_families(self._families, self._prepared)
        if minutes is not None and len(affordable) == 1 and late:
            second = second_family(late, self._prepared, self._clock, self._pool.size, self._base)
            self._display.show(alone(affordable[0], minutes, second))
        self._study.remember(SECOND, second)

    def _trial(self, trial: TrialRecord) -> Job:
        """Return the job of a trial; one on which all depends ends itself before time is up."""
        changes, found = (
            self._study.facts(trial.number).get("changes"),
            self._jobs.prepared_of(trial),
        )
        if changes is None and limit_of(self._base) is None and self._study.best() is None:
            seconds = self._clock.first_limit(found.seconds, only=len(self._families) == 1)
            limit = f"trainer.max_time={max(1, round((seconds or 0.0) / found.trainings))}"
            # What is no network has no epochs, and nothing that a clock could end.
            if seconds and effective_overrides([limit], self._families[trial.family].overrides):
                self._study.note(trial.number, changes=[limit])
        return self._jobs.trial(trial)

    def _last_answer(self) -> bool:
        """Run the least trial of all where there is no answer; return whether there is one then.

        What an earlier start left running, which was ended in the midst of it, goes on instead.
        """
        minutes, trials = self._settings.budget.minutes, self._study.trials()
        running = {trial.family for trial in trials if trial.state == RUNNING}
        # What has failed would fail again: it is not for want of time.
        wanted = {trial.state for trial in trials} <= {PRUNED, RUNNING}
        seconds = self._clock.last_seconds(slowdown(), again=bool(running)) if wanted else 0.0
        if minutes is not None and seconds:
            begun = len(trials)
            if not running:
                side, families = shorter_side(self._settings), self._families.values()
                pixels = kind_of(self._settings.data.target).pixels
                name, values, least = least_trial(families, self._base, side, pixels=pixels)
                cut = ", ".join(least.overrides) or "as it is"
                self._display.show(
                    f"nothing else ends in {minutes:g} minutes on this machine just now: {name} is "
                    f"tried at its cheapest ({cut}), for a rough answer; more minutes buy a better "
                    "one"
                )
                self._prepared[name] = least
                self._enqueue(name, values)
                running, begun = {name}, begun + 1
            self._race(begun, *running, until=self._clock.spent + seconds)
        return self._study.best() is not None

    def _race(self, trials: int | None, *families: str, until: float | None = None) -> None:
        """Run trials, of these families or of all, until there are so many or time is over.

        With `until`, in seconds of the clock, that is the end, whatever the budget says.
        """
        clock = self._clock

        def time_left(answered: bool) -> float | None:
            return clock.time_left(answered) if until is None else until - clock.spent

        raced = {name: self._families[name] for name in families or self._families}
        Driver(
            self._study,
            self._pool,
            metrics=self._settings.metrics,
            job_of=self._trial,
            observers=(self._display, self._parent),
            affordable=Forecast(raced, self._prepared).affordable,
            trials=trials,
            epochs=self._settings.budget.epochs if until is None else None,
            at_once=1 if any(one.takes_turns for one in self._prepared.values()) else None,
            time_left=time_left,
            time_to_end=clock.time_to_end if until is None else None,
            stay=self._stay,
            failure_limit=self._settings.failure_limit,
            interrupted=lambda: self._interruption.pending,
        ).race()
        self._interruption.check()

    def _finals(self) -> None:
        Finals(
            self._pool,
            self._jobs,
            show=self._display.show,
            doing=self._display.doing,
            check=self._check,
            stay=self._stay,
            observers=(self._display, self._parent),
            interrupted=lambda: self._interruption.pending,
            seconds_left=lambda: self._clock.left,
            time_to_end=self._clock.finals_to_end,
        ).run()

    def _enqueue(self, name: str, values: Mapping[str, Value] | None = None) -> None:
        """Let a configuration of a family, as prepared, come before what is proposed, once.

        That is its own one, or one with these values, which comes first of all.
        """
        own = default_values(self._families[name], self._base) if values is None else values
        kept: dict[str, Any] = {PREPARED: list(self._prepared[name].overrides)}
        self._study.enqueue(name, own, first=values is not None, **kept)

    def _target(self) -> dict[str, Any]:
        """Return what this command wants of the study: once reached, it only prints."""
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
    """Run a study, or go on with it, and return what came of it.

    The settings are those that `read_sweep_settings` makes of the other arguments.

    Raises:
        ConfigError: the input is wrong, or the study is another one's.
        Interrupted: Ctrl-C or SIGTERM; the same command goes on.
        RunFailed: the sweep cannot go on.
    """
    if settings.workers.engine == "local" and not settings.study_folder.exists():
        refuse_machine(settings.trainer.accelerator)
    if reason := refusal_of_folder(Path(settings.output_dir).absolute()):
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {reason}.")
    costs = checked_costs(settings)
    chosen_overrides = list(overrides)
    if isinstance(settings.families, str):
        chosen = choose_families(settings, overrides)
        print(chosen.reason, flush=True)
        chosen_overrides += chosen.overrides
        if chosen.overrides:
            settings = read_sweep_settings(chosen_overrides, config_name)
        settings = replace(settings, families=list(chosen.names))
    elif remark := judged_by(settings, overrides):
        print(remark, flush=True)
    base = base_overrides(chosen_overrides, config_name)
    with doing("reading what each family may try"):
        families = load_families(list(settings.families), base, settings.search)
    line = command("sweep", "--config-name", config_name, *overrides)
    try:
        check_sampler(settings.sampler.name, families, len(settings.metrics))
        spec = study_spec(settings, families, base, costs)
        study = SweepStudy(settings.study_folder, spec, settings.storage)
    except StudyChanged as error:
        # It names the table of costs, which may be what has changed.
        earlier = None if costs is not None else command_that_goes_on(settings, error.begun)
        going_on = "take the old settings"
        if earlier is not None:
            going_on = f"go on with it: {without_password(earlier)}"
        raise ConfigError(f"{error}. Begin a new one with study=NAME, or {going_on}") from error
    except ValueError as error:  # StudyBusy as well
        raise ConfigError(f"{str(error).rstrip('.')}.") from error
    except OSError as error:
        reason = refusal(error, settings.study_folder) or str(error)
        raise ConfigError(f"the study cannot be kept: {reason}.") from error
    with study, Interruption() as interruption:
        try:
            with explained(settings.study_folder):
                keep_command(settings.study_folder, overrides, config_name)
            return _Sweep(settings, line, study, families, base, costs, interruption).run()
        except Interrupted:
            with suppress(OSError, ValueError):  # the terminal went away
                again = shorter_command(settings) or line
                print(f"go on with: {without_password(again)}", file=sys.stderr, flush=True)
            raise
        except StudyBusy as error:
            raise RunFailed(str(error)) from error


def _engine_of(settings: SweepSettings, folder: Path) -> tuple[Engine, int]:
    """Return what runs the workers of a sweep, and the threads that each of them has."""
    workers, devices = settings.workers, settings.trainer.devices
    use_gpus = settings.trainer.accelerator != "cpu"
    try:
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
            )
            return ray, ray.share.threads
        gpus = visible_gpus() if use_gpus else []
        count = devices if isinstance(devices, int) else max(1, len(gpus))
        places = slots(workers, count, gpus=gpus, cores=available_cores())
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
    return LocalEngine(places, _RUNNER, folder), places[0].threads
