"""A sweep from settings to verdict: families, study, slots, race, finalists, records."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from src.config.checks import ConfigError, to_plain
from src.config.plugins import plugin_words
from src.config.sweep import SweepSettings, base_words, read_sweep_settings
from src.machine.disk import refusal, refusal_of_folder
from src.machine.failures import RunFailed
from src.machine.interruption import Interrupted, Interruption
from src.records.trials import SweepRecord, TrialRecord
from src.search.driver import Budget, Driver, TooManyFailures
from src.search.pool import Pool, WorkersFail
from src.search.pruning import make_pruner
from src.search.samplers import check_sampler
from src.search.space import Family
from src.search.study import Plan, StudyBusy, StudyChanged, SweepStudy
from src.search.workers.process import Job
from src.sweeps.auto import choose_families
from src.sweeps.clock import Clock
from src.sweeps.engine import engine_for
from src.sweeps.families import default_values, load_families, words_of
from src.sweeps.finalists import NO_FOLDS, Finals
from src.sweeps.observers import Onlookers
from src.sweeps.parent_run import ParentRun
from src.sweeps.pictures import check_pictures
from src.sweeps.prepare import Preparation, Prepared

__all__ = ["run_sweep"]

_RUNNER = "src.sweeps.run_job:TrialRunner"
# Workers of a cluster may wait for room much longer, and are on other machines.
_GATHER_SECONDS = 20.0


class _Race:
    """The parts of one sweep, joined.

    Args:
        settings: of the sweep.
        words, config_name: that they came from.
        study: open.
        families: that race.
        base: words that all trials share.
        folder: of the study.
    """

    def __init__(
        self,
        settings: SweepSettings,
        command: str,
        study: SweepStudy,
        families: Sequence[Family],
        base: Sequence[str],
        folder: Path,
    ) -> None:
        self._settings = settings
        self._study = study
        self._families = {family.name: family for family in families}
        self._base = tuple(base)
        self._folder = folder
        self._prepared: dict[str, Prepared] = {}
        minutes = settings.budget.minutes
        self._clock = Clock(
            None if minutes is None else 60 * minutes,
            finals=bool(settings.finalists),
            earlier=float(study.recall("spent") or 0.0),
            note=partial(study.remember, "spent"),
        )
        self._parent = ParentRun(settings, study, folder, command)

    def run(self, interruption: Interruption) -> SweepRecord:
        """From the first trial to the winner.

        Raises:
            ConfigError: the pictures are others than those that the study began with.
            Interrupted: somebody asked to stop; the same command goes on.
            RunFailed: the sweep cannot go on.
        """
        if self._is_over():
            return self.record()
        check_pictures(self._settings, self._study)
        engine, threads = engine_for(self._settings, self._folder / "workers", _RUNNER)
        if self._settings.runtime.threads in ("auto", None):
            self._base = (*self._base, f"runtime.threads={threads}")
        pool = Pool(engine)
        parent, onlookers = self._parent, Onlookers(self._settings, self._study, self._parent)
        status, reason = "FAILED", None

        def check() -> None:
            self._study.stay()
            self._clock.tick()
            interruption.check()

        try:
            with onlookers:
                interruption.defer(True)
                pool.start()
                self._prepare(pool, onlookers, interruption, check)
                budget = self._budget(self._clock.race_left)
                self._driver(pool, onlookers, budget, interruption).race()
                interruption.check()
                self._clock.settle()
                finals = Finals(
                    self._settings,
                    self._study,
                    pool,
                    onlookers,
                    self._final_job,
                    seconds_left=self._clock.left,
                )
                finals.run(lambda: interruption.pending, check)
                self._clock.settle()
                self._study.remember("over", self._target())
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
            pool.close()
            parent.finish(status, reason, None if interruption.insisted else self._if_readable())
        return self.record()

    def _driver(
        self, pool: Pool, onlookers: Onlookers, budget: Budget, interruption: Interruption
    ) -> Driver:
        return Driver(
            self._study,
            pool,
            budget=budget,
            metrics=self._settings.metrics,
            job_of=self._job,
            watcher=onlookers,
            affordable=self._affordable,
            failure_limit=self._settings.failure_limit,
            interrupted=lambda: interruption.pending,
        )

    def _if_readable(self) -> SweepRecord | None:
        """The study as it stands; None if its storage went away."""
        try:
            return self.record()
        except StudyBusy:
            return None

    def record(self) -> SweepRecord:
        """The study as it stands."""
        settings, study = self._settings, self._study
        trials = tuple(study.trials())
        final = Finals.stored(study)
        commands = {t.number: _command(t.words) for t in trials if t.words}
        if final.winner is not None and final.winning_seed is not None:
            words = study.trial(final.winner).words
            alone = NO_FOLDS if settings.cv.is_whole else ()
            words = tuple(_changed(words, [f"seed={final.winning_seed}", *alone]))
            commands[final.winner] = _command(words)
        return SweepRecord(
            study=settings.study,
            metrics=settings.metrics,
            directions=settings.directions,
            families=tuple(self._families),
            trials=trials,
            base=self._base,
            commands=commands,
            importances=study.importances(),
            finalists=final.ranked(settings.directions[0]),
            winner=final.winner,
            test=final.test,
            test_measurements=final.test_measurements,
            seconds=float(study.recall("seconds") or 0.0),
            steps="folds" if settings.cv.is_whole else "epochs",
        )

    def _budget(self, left: float | None) -> Budget:
        """What the driver may use: it counts the seconds of racing alone, over all starts."""
        budget = self._settings.budget
        raced = float(self._study.recall("seconds") or 0.0)
        return Budget(budget.trials, None if left is None else raced + left, budget.epochs)

    def _affordable(self, seconds: float | None) -> frozenset[str]:
        """The families of which a whole trial would end in so many seconds; None for no limit."""
        return frozenset(
            name
            for name, found in self._prepared.items()
            if found.affordable and (seconds is None or found.seconds <= seconds)
        )

    def _is_over(self) -> bool:
        return bool(self._study.recall("over") == self._target())

    def _target(self) -> dict[str, Any]:
        """What this command wants of the study: reached once, it only prints."""
        settings = self._settings
        return {
            "budget": to_plain(settings.budget),
            "finalists": [settings.finalists, settings.finalist_seeds],
            "test": settings.evaluate_test,
        }

    def _prepare(
        self,
        pool: Pool,
        onlookers: Onlookers,
        interruption: Interruption,
        check: Callable[[], None],
    ) -> None:
        """Find out what the families take, one after another on an otherwise idle machine.

        What a frozen network says of the pictures is known before networks are timed: its first
        trial ends before they are looked at.
        """
        known: dict[str, Any] = self._study.recall("prepared") or {}
        if not self._families.keys() <= known.keys():
            pool.gather(_GATHER_SECONDS, check)
        preparation = Preparation(pool, self._clock, self._base, self._places(final=False), check)
        for name, family in self._families.items():
            ready = any(found.affordable for found in self._prepared.values())
            if name not in known and ready and self._clock.trials_wait:
                onlookers.say(f"{name}: left out, so that the others have time for trials")
                continue
            if name not in known:
                onlookers.say(f"{name}: finding out how to train it on this machine")
                found = preparation.find_out(family)
                for note in found.notes:
                    onlookers.say(f"{name}: {note}")
                known[name] = asdict(found)
                # What was left out may have its turn when the study gets more time.
                kept = {n: plain for n, plain in known.items() if plain["affordable"]}
                self._study.remember("prepared", kept)
            if not self._prepared:
                for line in known[name]["data"]:
                    onlookers.say(f"data: {line}")
            self._prepared[name] = Prepared(**known[name])
            if self._prepared[name].immediate and not self._study.trials():
                self._enqueue([name])
                # All of the budget: an answer that is late for the race is better than none.
                budget = self._budget(self._clock.left)
                self._driver(pool, onlookers, replace(budget, trials=1), interruption).race()
                check()
        affordable = {n: p for n, p in self._prepared.items() if p.affordable}
        if not affordable:
            raise RunFailed(
                f"budget.minutes={self._settings.budget.minutes} is too short for any of "
                f"{', '.join(self._families)}: give it more, or name faster families"
            )
        first = sorted(affordable, key=lambda n: affordable[n].seconds)
        self._enqueue(sorted(first, key=lambda n: not affordable[n].published))

    def _enqueue(self, names: Sequence[str]) -> None:
        """Let the families' own configurations come before all others, each once."""
        done: list[str] = self._study.recall("families_enqueued") or []
        for name in names:
            if name not in done:
                self._study.enqueue(name, default_values(self._families[name], self._base))
                self._study.remember("families_enqueued", done := [*done, name])

    def _job(self, trial: TrialRecord, changes: Sequence[str] = ()) -> Job:
        family, prepared = self._families[trial.family], self._prepared[trial.family]
        # What an attempt before it has shown to be needed.
        changes = [*self._study.facts(trial.number).get("changes", ()), *changes]
        words = words_of(family, (*self._base, *prepared.words), trial.values)
        words = _changed(words, changes)
        epochs = trial.values.get("trainer.max_epochs", prepared.epochs)
        return {
            "do": "train",
            "words": words,
            "places": self._places(final=False),
            "command": _command(words),
            "name": f"{self._settings.study}-{trial.number:03d}-{trial.family}",
            "tags": self._tags(trial, _command(words)),
            "parent_run_id": self._parent.run_id,
            "metric": self._settings.metrics[0],
            "direction": self._settings.directions[0],
            "epochs": epochs,
            "folds": self._settings.cv.count if self._settings.cv.is_whole else None,
        }

    def _final_job(self, trial: TrialRecord, seed: int, changes: Sequence[str]) -> Job:
        """A finalist's training with another seed, recorded in full."""
        job = dict(self._job(trial, changes))
        words = _changed(job["words"], [f"seed={seed}"])
        name = f"{self._settings.study}-final-{trial.number:03d}-{trial.family}-seed{seed}"
        tags = self._tags(trial, _command(words)) | {"bakeoff.finalist_seed": str(seed)}
        places = self._places(final=True)
        return job | {
            "words": words,
            "places": places,
            "command": _command(words),
            "name": name,
            "tags": tags,
        }

    def _tags(self, trial: TrialRecord, command: str) -> dict[str, str]:
        return {
            "bakeoff.sweep": self._settings.study,
            "bakeoff.trial": str(trial.number),
            "bakeoff.family": trial.family,
            "bakeoff.state": "running",
            "bakeoff.command": command,
        }

    def _places(self, *, final: bool) -> list[str]:
        """Words that say where a run is kept and how much of it, but not what it is."""
        settings = self._settings
        tracking = settings.tracking
        words = [
            f"output_dir={Path(settings.output_dir).absolute()}",
            f"tracking.enabled={str(tracking.enabled).lower()}",
            f"tracking.experiment={tracking.experiment}",
            "evaluate_test=false",
            "trainer.progress=false",
        ]
        if tracking.uri is not None:
            words.append(f"tracking.uri={tracking.uri}")
        if not final:
            words += ["tracking.log_model=false", "tracking.figures=false"]
            words += ["tracking.system_metrics_seconds=null"]
        return words


def run_sweep(settings: SweepSettings, words: Sequence[str], config_name: str) -> SweepRecord:
    """Carry a study out, or go on with it.

    Args:
        settings: as `read_sweep_settings` gives them for
        words, config_name: those of the command line.

    Raises:
        ConfigError: the input is wrong, or the study is another one's.
        Interrupted: Ctrl-C or SIGTERM; the same command goes on.
        RunFailed: the sweep cannot go on.
    """
    if reason := refusal_of_folder(Path(settings.output_dir).absolute()):
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {reason}.")
    chosen_words = list(words)
    if isinstance(settings.families, str):
        chosen = choose_families(settings, words)
        print(chosen.reason, flush=True)
        chosen_words += chosen.words
        if chosen.words:
            settings = read_sweep_settings(chosen_words, config_name)
        settings = replace(settings, families=list(chosen.names))
    base = base_words(chosen_words, config_name)
    families = load_families(list(settings.families), base, settings.search)
    command = shlex.join(["python", "-m", "src.sweep", "--config-name", config_name, *words])
    folder = settings.study_folder
    try:
        check_sampler(settings.sampler.name, families, len(settings.metrics))
        study = SweepStudy(folder, _plan(settings, families, base), settings.storage)
    except (StudyBusy, StudyChanged, ValueError) as error:
        raise ConfigError(f"{str(error).rstrip('.')}.") from error
    except OSError as error:
        reason = refusal(error, folder) or str(error)
        raise ConfigError(f"the study cannot be kept: {reason}.") from error
    with study, Interruption() as interruption:
        try:
            return _Race(settings, command, study, families, base, folder).run(interruption)
        except StudyBusy as error:
            raise RunFailed(str(error)) from error


def _plan(settings: SweepSettings, families: Sequence[Family], base: Sequence[str]) -> Plan:
    pruner = settings.pruner
    epochs = settings.trainer.max_epochs
    return Plan(
        name=settings.study,
        families=families,
        directions=settings.directions,
        identity={
            "metric": list(settings.metrics),
            "direction": list(settings.directions),
            "base": sorted(base),
            "families": {family.name: family.plain() for family in families},
        },
        sampler=settings.sampler.name,
        startup_trials=settings.sampler.startup_trials,
        seed=settings.seed,
        pruner=make_pruner(
            pruner.name,
            min_epochs=pruner.min_epochs,
            max_epochs=epochs if isinstance(epochs, int) else 30,
            reduction_factor=pruner.reduction_factor,
            across_families=pruner.across_families,
            p_threshold=pruner.p_threshold,
        ),
    )


def _changed(words: Sequence[str], changes: Sequence[str]) -> list[str]:
    """The words with these in place of those on the same keys; of two changes the later counts."""
    newer = {word.partition("=")[0]: word for word in changes}
    return [*(word for word in words if word.partition("=")[0] not in newer), *newer.values()]


def _command(words: Sequence[str]) -> str:
    """That repeats a trial by hand, without a look at the test part."""
    return shlex.join(["python", "-m", "src.train", *plugin_words(), *words, "evaluate_test=false"])
