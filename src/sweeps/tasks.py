"""The tasks of a sweep's workers, and the jobs that carry them as plain values.

A task concerns a run, whose overrides are in the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from ..config.metrics import plain_metric
from ..config.overrides import by_key, changed, split_override, value_of
from ..config.plugins import plugin_overrides
from ..config.sweep import SweepSettings
from ..config.training import seconds_of
from ..data.sources.costs import CostTable
from ..machine.package import command
from ..records.trials import Finalist, TrialRecord
from ..runs.fold_records import fold_runs
from ..runs.folder import RunFolder
from ..search.jobs import Job
from ..search.space import Family
from ..search.study import SweepStudy
from ..tracking.mlflow_pages import METRIC_TAG
from .clock import TimeShare
from .families import kinds_of, trial_overrides, trial_variants
from .prepared import PREPARED, THREADS, Prepared

__all__ = [
    "MeasureTest",
    "Prepare",
    "SweepJobs",
    "Train",
    "command_of",
    "commands",
    "limit_of",
    "plain_task",
    "read_task",
    "run_with_folds",
]

# Overrides that turn a cross-validated configuration into one training on the usual parts.
_NO_FOLDS = ("cv.folds=null", "cv.repeats=1")


@dataclass(frozen=True)
class _Task:
    """A task; `places` are overrides for where a run is stored, which do not change its results."""

    places: Sequence[str]


@dataclass(frozen=True)
class Prepare(_Task):
    """Choose the settings that a family's default configuration leaves open, and measure its time.

    The result of the job is a `Prepared`.

    Attributes:
        seconds: limit; None for none.
        late_by: seconds by which describing pictures by frozen networks may exceed the limit.
        kinds: values of keys, for each classifier whose fit is to be timed.
        variants: values of keys, for each set of features or size of a network.
        trial_seconds: limit of a trial. Pictures are not opened for a network from scratch if
            `least_epochs` clearly take longer.
        least_epochs: fewest epochs of a trial.
        at_once: whether frozen networks whose features are stored come before better ones.
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
    """Train a trial or a finalist as a tracked run, or resume the run in `resume`.

    The job reports the run's metrics and notes `run_id`, `run_dir` and the `fold_dir` of each fold;
    its result has the `run_dir`. Name, tags and parent are those in MLflow, `metric` is the first
    metric, and `direction` is "maximize" or "minimize". With `costs`, as `CostTable.plain` returns
    them, the parts are measured by them as well.
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
    """Measure the test part with the run in `run_dir`, or with the run of `train`.

    The job notes the `run_dir`, whose record goes on. Its result has `run_dir`, `measurements`, and
    in `measured` what the driver counts where the worker could not: the `fingerprint` of the test
    part and the `run_id`. Parent and `costs` are those of a `Train`.
    """

    run_dir: str
    parent_run_id: str
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
        families: by name.
        base: overrides that all trials share.
        prepared: results of measured families, by name.
        parent_run_id: id of the sweep's own run.
        costs: of mistakes, if trials are judged by them.
    """

    settings: SweepSettings
    study: SweepStudy
    families: Mapping[str, Family]
    base: Sequence[str]
    prepared: dict[str, Prepared]
    parent_run_id: str
    costs: CostTable | None = None

    @property
    def ready(self) -> list[str]:
        """The families whose trials can begin."""
        return [name for name, one in self.prepared.items() if one.affordable]

    def prepare(
        self,
        family: Family,
        changes: Sequence[str],
        share: TimeShare,
        least_epochs: float = 1.0,
        at_once: bool = False,
    ) -> Job:
        """Return the job that measures a family's default configuration with these changes.

        `least_epochs` and `at_once` are those of `Prepare`.
        """
        limited = share.measuring is not None
        task = Prepare(
            places=self._places(final=False),
            seconds=share.measuring,
            late_by=share.late_by,
            kinds=[kind.values for kind in kinds_of(family)] if limited else [],
            variants=trial_variants(family) if limited else [],
            trial_seconds=share.trial,
            least_epochs=least_epochs,
            at_once=at_once,
        )
        own = trial_overrides(family, self.base, {})
        return Job(plain_task(task), overrides=changed(own, changes))

    def trial(self, trial: TrialRecord) -> Job:
        """Return the job that trains a trial, or resumes its run."""
        if PREPARED not in self.study.facts(trial.number):
            self.study.note(trial.number, **{PREPARED: list(self.prepared[trial.family].overrides)})
        return self._job(trial, self._train(trial, trial.run_dir))

    def finalist(
        self, trial: TrialRecord, seed: int, changes: Sequence[str], resume: str | None
    ) -> Job:
        """Return the job that trains a trial's configuration with another seed, fully recorded.

        It uses the threads of its slot, since other finalists may be trained at the same time.
        """
        prepared = self.study.facts(trial.number).get(PREPARED, ())
        taken = any(override.startswith(THREADS) for override in prepared)
        slot = [override for override in self.base if taken and override.startswith(THREADS)]
        return self._job(trial, self._train(trial, resume, seed), *changes, *slot, f"seed={seed}")

    def test(self, trial: TrialRecord, seed: int, run_dir: str) -> Job:
        """Return the job that measures the test part with a finalist's run.

        After a cross-validation, which has no single run to use, the job trains one.
        """
        kept = ("output_dir=", "tracking.uri=")
        places = [p for p in self._places(final=True) if p.startswith(kept)]
        task = MeasureTest(places, run_dir, self.parent_run_id, costs=self._plain_costs())
        if not self.settings.cv.is_whole:
            return Job(plain_task(task), folders=run_with_folds(run_dir))
        train = self._train(trial, None, seed)
        task = replace(task, train=replace(train, name=f"{train.name}-test"))
        return self._job(trial, task, *_NO_FOLDS, f"seed={seed}")

    def prepared_of(self, trial: TrialRecord) -> Prepared:
        """Return the result of measuring a trial's family.

        If the family was not measured, as for the minimal trial of an earlier start, it has the
        overrides that are stored with the trial.
        """
        known = self.prepared.get(trial.family)
        kept = self.study.facts(trial.number).get(PREPARED, ())
        return Prepared(list(kept), 1, 0.0) if known is None else known

    def chosen_for(self, trial: TrialRecord) -> Sequence[str]:
        """Return the overrides that were chosen for a trial's family when the trial began."""
        kept: Sequence[str] | None = self.study.facts(trial.number).get(PREPARED)
        return self.prepared_of(trial).overrides if kept is None else kept

    def is_current(self, trial: TrialRecord) -> bool:
        """Return whether a further trial of its family would have what was chosen for this one."""
        return [*self.chosen_for(trial)] == [*self.prepared_of(trial).overrides]

    def _job(self, trial: TrialRecord, task: Task, *changes: str) -> Job:
        facts = self.study.facts(trial.number)
        found, prepared = self.prepared_of(trial), self.chosen_for(trial)
        known = self.is_current(trial)  # else it was measured again since
        if trial.values.get("model.classifier", "auto") != "auto":  # without a search
            prepared = [override for override in prepared if not override.startswith("model.auto.")]
        base = changed(self.base, prepared)
        overrides = trial_overrides(self.families[trial.family], base, trial.values)
        overrides = changed(overrides, [*facts.get("changes", ()), *changes])
        stated = {**dict(map(split_override, prepared)), **trial.values}
        epochs = int(stated.get("trainer.max_epochs", found.epochs))
        whole = self.settings.cv.is_whole
        return Job(
            plain_task(task),
            epochs=epochs,
            folds=self.settings.cv.count if whole else None,
            overrides=overrides,
            seconds=limit_of(overrides),
            step_seconds=found.seconds_per_epoch * (epochs if whole else 1) if known else None,
            folders=run_with_folds(task.resume) if isinstance(task, Train) else (),
        )

    def _train(self, trial: TrialRecord, resume: str | None, seed: int | None = None) -> Train:
        """Return the task that trains a trial, or a finalist if a seed is given."""
        name = trial.name
        tags = {
            "bakeoff.sweep": self.settings.study,
            "bakeoff.trial": str(trial.number),
            "bakeoff.family": trial.family,
            METRIC_TAG: plain_metric(self.settings.metrics[0]),
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
        """Return the overrides for where a run is stored, and how much of it."""
        settings = self.settings
        tracking = settings.tracking
        overrides = [
            f"output_dir={Path(settings.output_dir).absolute()}",
            f"tracking.enabled={str(tracking.enabled).lower()}",
            "evaluate_test=false",
            "trainer.progress=false",
        ]
        if tracking.experiment is not None:
            overrides.append(f"tracking.experiment={tracking.experiment}")
        if tracking.uri is not None:
            overrides.append(f"tracking.uri={tracking.uri}")
        if not final:
            overrides += ["tracking.log_model=false", "tracking.figures=false"]
            overrides += ["tracking.system_metrics_seconds=null"]
        return overrides


def commands(
    trials: Sequence[TrialRecord], winner: Finalist | None, cross_validated: bool
) -> dict[int, str]:
    """Return the command line that repeats each trial, by trial number.

    That of the winner repeats the run of its first seed, which is a single training even if trials
    are cross-validated.
    """
    found = {trial.number: command_of(trial.overrides) for trial in trials if trial.overrides}
    if winner is not None and winner.first_seed is not None:
        overrides = next(trial.overrides for trial in trials if trial.number == winner.trial)
        no_folds = _NO_FOLDS if cross_validated else ()
        found[winner.trial] = command_of(
            changed(overrides, [f"seed={winner.first_seed}", *no_folds])
        )
    return found


def limit_of(overrides: Sequence[str]) -> float | None:
    """Return the seconds after which a training with these overrides ends; None for no limit."""
    limit = by_key(overrides).get("trainer.max_time")
    value = None if limit is None else value_of(limit)
    return None if value is None else seconds_of(value)


def run_with_folds(run_dir: str | None) -> list[str]:
    """Return the folder of a run, and those of its folds; none if it no longer exists."""
    if run_dir is None or not Path(run_dir).is_dir():
        return []
    folders = [run_dir]
    with suppress(ValueError):  # a damaged folder is reported where it is read
        folders += [str(fold.path) for fold in fold_runs(RunFolder.open(Path(run_dir)))]
    return folders


def command_of(overrides: Sequence[str]) -> str:
    """Return the command that repeats a trial by hand, without measuring the test part."""
    return command("train", *plugin_overrides(), *overrides, "evaluate_test=false")
