"""What the workers of a sweep do: their tasks, and the jobs that carry them as plain values.

The overrides of the run that a task is about are those of its job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ..config.overrides import value_of
from ..config.plugins import plugin_overrides
from ..config.sweep import SweepSettings
from ..config.training import seconds_of
from ..data.sources.costs import CostTable
from ..machine.package import command
from ..records.trials import Finalist, TrialRecord
from ..runs.folder import RunFolder
from ..runs.folds import fold_runs
from ..search.jobs import Job
from ..search.space import Family
from ..search.study import SweepStudy
from .clock import Share
from .families import kinds_of, overrides_of, variants_of
from .prepared import PREPARED, THREADS, Prepared

__all__ = [
    "MeasureTest",
    "Prepare",
    "SweepJobs",
    "Train",
    "changed",
    "command_of",
    "commands",
    "folders_of",
    "limit_of",
    "plain_task",
    "read_task",
]

# Overrides that turn a cross-validated configuration into one training on the usual parts.
_NO_FOLDS = ("cv.folds=null", "cv.repeats=1")


@dataclass(frozen=True)
class _Task:
    """A task; `places` are overrides for where a run is kept, which do not change what it is."""

    places: Sequence[str]


@dataclass(frozen=True)
class Prepare(_Task):
    """Measure and choose what a family's own configuration leaves open, in so many seconds.

    Features of frozen networks may be `late_by` more. Pictures are not opened for a network from
    scratch of which `least_epochs` clearly take more than `trial_seconds`. `kinds` are values of
    keys, one for each classifier whose fit is to be timed, and `variants` those that make other
    features or networks of other sizes. With `at_once`, frozen networks by which the pictures are
    described already come before better ones. The result of the job is a `Prepared`.
    """

    seconds: float | None = None
    late_by: float = 0.0
    kinds: Sequence[Mapping[str, Any]] = ()
    variants: Sequence[Mapping[str, Any]] = ()
    trial_seconds: float | None = None
    least_epochs: float = 1.0
    at_once: bool = False


@dataclass(frozen=True)
class Train(_Task):
    """Train a trial or a finalist as a tracked run, or go on with the one in `resume`.

    The job reports the run's metrics, notes `run_id`, `run_dir` and the `fold_dir` of each fold,
    and its result has the `run_dir`. Name, tags and parent are those in MLflow, `metric` is the
    first one, and `direction` "maximize" or "minimize". With `costs`, as of `CostTable.plain`,
    parts are measured by them as well.
    """

    family: str
    trial: int
    name: str
    tags: Mapping[str, str]
    parent_run_id: str
    metric: str
    direction: str
    resume: str | None = None
    costs: Mapping[str, Mapping[str, float]] | None = None


@dataclass(frozen=True)
class MeasureTest(_Task):
    """Measure the test part with the run in `run_dir`, or with the one that `train` gives.

    The result of the job has `measurements` and `run_dir`. With `costs`, as of a `Train`, it is
    measured by them as well.
    """

    run_dir: str
    train: Train | None = None
    costs: Mapping[str, Mapping[str, float]] | None = None


Task = Prepare | Train | MeasureTest
_KINDS: dict[str, type[Task]] = {kind.__name__: kind for kind in get_args(Task)}


def plain_task(task: Task) -> dict[str, Any]:
    """Return a task as plain values, for `read_task`."""
    return {"kind": type(task).__name__, **asdict(task)}


def read_task(plain: Mapping[str, Any]) -> Task:
    """Return the task of a job."""
    fields = dict(plain)
    kind = _KINDS[fields.pop("kind")]
    if fields.get("train") is not None:
        fields["train"] = Train(**fields["train"])
    return kind(**fields)


@dataclass(frozen=True)
class SweepJobs:
    """Makes the jobs of a sweep.

    Attributes:
        families: that race, by name.
        base: overrides that all trials share.
        prepared: by family, once it is known.
        parent_run_id: id of the sweep's own run.
        costs: what the sweep goes by, where that is a cost.
    """

    settings: SweepSettings
    study: SweepStudy
    families: Mapping[str, Family]
    base: Sequence[str]
    prepared: dict[str, Prepared]
    parent_run_id: str
    costs: CostTable | None = None

    def prepare(
        self,
        family: Family,
        changes: Sequence[str],
        share: Share,
        least_epochs: float = 1.0,
        at_once: bool = False,
    ) -> Job:
        """Return the job that measures a family's own configuration with these changes.

        `least_epochs` and `at_once` are as of `Prepare`.
        """
        limited = share.measuring is not None
        task = Prepare(
            self._places(final=False),
            share.measuring,
            share.late_by,
            [kind.values for kind in kinds_of(family)] if limited else [],
            variants_of(family) if limited else [],
            share.trial,
            least_epochs,
            at_once,
        )
        own = overrides_of(family, self.base, {})
        return Job(plain_task(task), overrides=changed(own, changes))

    def trial(self, trial: TrialRecord) -> Job:
        """Return the job that trains a trial, or goes on with its run."""
        if PREPARED not in self.study.facts(trial.number):
            self.study.note(trial.number, **{PREPARED: list(self.prepared[trial.family].overrides)})
        return self._job(trial, self._train(trial, trial.run_dir))

    def finalist(
        self, trial: TrialRecord, seed: int, changes: Sequence[str], resume: str | None
    ) -> Job:
        """Return the job that trains a trial's configuration with another seed, fully recorded.

        It has the threads of its slot, since others may be trained beside it.
        """
        prepared = self.study.facts(trial.number).get(PREPARED, ())
        taken = any(word.startswith(THREADS) for word in prepared)
        slot = [word for word in self.base if taken and word.startswith(THREADS)]
        return self._job(trial, self._train(trial, resume, seed), *changes, *slot, f"seed={seed}")

    def test(self, trial: TrialRecord, seed: int, run_dir: str) -> Job:
        """Return the job that measures the test part with a finalist's run.

        Of the runs of a cross-validation none is the one to use: there one is trained for it.
        """
        kept = ("output_dir=", "tracking.uri=")
        places = [p for p in self._places(final=True) if p.startswith(kept)]
        task = MeasureTest(places, run_dir, costs=self._plain_costs())
        if not self.settings.cv.is_whole:
            return Job(plain_task(task), folders=folders_of(run_dir))
        train = self._train(trial, None, seed)
        task = replace(task, train=replace(train, name=f"{train.name}-test"))
        return self._job(trial, task, *_NO_FOLDS, f"seed={seed}")

    def prepared_of(self, trial: TrialRecord) -> Prepared:
        """Return what was measured of a trial's family.

        Of a family that was not, as of the least trial of an earlier start, it is what the trial
        was prepared with.
        """
        known = self.prepared.get(trial.family)
        kept = self.study.facts(trial.number).get(PREPARED, ())
        return Prepared(list(kept), 1, 0.0) if known is None else known

    def _job(self, trial: TrialRecord, task: Task, *changes: str) -> Job:
        facts = self.study.facts(trial.number)
        found = self.prepared_of(trial)
        prepared = facts.get(PREPARED, found.overrides)
        known = list(prepared) == list(found.overrides)  # else it was prepared anew since
        if trial.values.get("model.classifier", "auto") != "auto":  # there is nothing to search for
            prepared = [word for word in prepared if not word.startswith("model.auto.")]
        base = changed(self.base, prepared)
        overrides = overrides_of(self.families[trial.family], base, trial.values)
        words = changed(overrides, [*facts.get("changes", ()), *changes])
        stated = {**dict(word.split("=", 1) for word in prepared), **trial.values}
        epochs = int(stated.get("trainer.max_epochs", found.epochs))
        whole = self.settings.cv.is_whole
        return Job(
            plain_task(task),
            epochs=epochs,
            folds=self.settings.cv.count if whole else None,
            # What earlier attempts have shown to be needed comes before what this one is for.
            overrides=words,
            seconds=limit_of(words),
            step_seconds=found.seconds_per_epoch * (epochs if whole else 1) if known else None,
            folders=folders_of(task.resume) if isinstance(task, Train) else (),
        )

    def _train(self, trial: TrialRecord, resume: str | None, seed: int | None = None) -> Train:
        """Return the training of a trial, or with a seed that of a finalist."""
        name = trial.name
        tags = {
            "bakeoff.sweep": self.settings.study,
            "bakeoff.trial": str(trial.number),
            "bakeoff.family": trial.family,
        }
        if seed is not None:
            name = f"{name}-seed{seed}"
            tags["bakeoff.finalist_seed"] = str(seed)
        return Train(
            places=self._places(final=seed is not None),
            family=trial.family,
            trial=trial.number,
            name=name,
            tags=tags,
            parent_run_id=self.parent_run_id,
            metric=self.settings.metrics[0],
            direction=self.settings.directions[0],
            resume=resume,
            costs=self._plain_costs(),
        )

    def _plain_costs(self) -> dict[str, dict[str, float]] | None:
        return None if self.costs is None else self.costs.plain()

    def _places(self, *, final: bool) -> list[str]:
        """Return overrides for where a run is kept, and how much of it."""
        settings = self.settings
        tracking = settings.tracking
        overrides = [
            f"output_dir={Path(settings.output_dir).absolute()}",
            f"tracking.enabled={str(tracking.enabled).lower()}",
            f"tracking.experiment={tracking.experiment}",
            "evaluate_test=false",
            "trainer.progress=false",
        ]
        if tracking.uri is not None:
            overrides.append(f"tracking.uri={tracking.uri}")
        if not final:
            overrides += ["tracking.log_model=false", "tracking.figures=false"]
            overrides += ["tracking.system_metrics_seconds=null"]
        return overrides


def commands(
    trials: Sequence[TrialRecord], winner: Finalist | None, cross_validated: bool
) -> dict[int, str]:
    """Return, by trial, the command line that repeats it by hand.

    That of the winner repeats the first seed's run, which is not cross-validated as trials may be.
    """
    found = {trial.number: command_of(trial.overrides) for trial in trials if trial.overrides}
    if winner is not None and winner.first_seed is not None:
        overrides = next(trial.overrides for trial in trials if trial.number == winner.trial)
        alone = _NO_FOLDS if cross_validated else ()
        found[winner.trial] = command_of(changed(overrides, [f"seed={winner.first_seed}", *alone]))
    return found


def changed(overrides: Sequence[str], changes: Sequence[str]) -> list[str]:
    """Return overrides with these in place of those on the same keys; of two changes the later."""
    newer = {word.partition("=")[0]: word for word in changes}
    return [*(word for word in overrides if word.partition("=")[0] not in newer), *newer.values()]


def limit_of(overrides: Sequence[str]) -> float | None:
    """Return the seconds after which a training with these overrides ends; None for no limit."""
    limits = [word for word in overrides if word.startswith("trainer.max_time=")]
    value = value_of(limits[-1]) if limits else None
    return None if value is None else seconds_of(value)


def folders_of(run_dir: str | None) -> list[str]:
    """Return the folder of a run, and those of its folds; none where it is gone."""
    if run_dir is None or not Path(run_dir).is_dir():
        return []
    folders = [run_dir]
    with suppress(ValueError):  # damaged, which whoever reads it says
        folders += [str(fold.path) for fold in fold_runs(RunFolder.open(Path(run_dir)))]
    return folders


def command_of(overrides: Sequence[str]) -> str:
    """Return the command that repeats a trial by hand, without measuring the test part."""
    return command("train", *plugin_overrides(), *overrides, "evaluate_test=false")
