"""Settings of a sweep: its families, metric, budget, sampler, pruner and workers."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..machine.text import nearest, plain
from .checks import (
    ConfigError,
    Settings,
    from_plain,
    positive,
    positive_int,
    setting,
)
from .compose import CONF, SWEEPS, chosen_options, compose_plain, groups
from .metrics import (
    COST,
    direction_of,
    key_of_metric,
    metric_setting,
    metrics_of,
    monitored_metrics,
    plain_metric,
    primary_of,
    reported_metrics,
)
from .nested import leaves
from .overrides import by_key, key_of_override, override_of, split_override, value_of
from .plugins import plugin_folders
from .schema import RunSettings

__all__ = [
    "DashboardSettings",
    "SweepSettings",
    "base_overrides",
    "read_sweep_settings",
    "sweep_choices",
    "sweep_files",
]

_FOLDERS = (SWEEPS, CONF)
# Groups of a run that a sweep sets by its file and its families.
_OF_A_RUN = ("experiment", "debug")
_MOST_BYTES_OF_STUDY = 100
_USUAL_FILE = "default"  # of sweeps/
_BALANCED = "val/balanced_accuracy"
# The setting of the answers, and its value, by `data.target` and the metric of a sweep, where that
# asks for others than the usual ones. A label that is as likely there as not is as often wrong
# either way, and with it the whole set.
_ANSWERS = {
    "multi": (
        "data.threshold",
        {"val/macro_f1": "macro_f1", "val/hamming_loss": "half", "val/accuracy": "half"},
    ),
    "single": ("data.answer", {COST: "cost", _BALANCED: "balanced_accuracy"}),
    "ordinal": ("data.answer", {COST: "cost", "val/mae": "mae", _BALANCED: "balanced_accuracy"}),
}
# Options of a group that use a setting, if not all do.
_USED_BY = {
    "pruner.min_epochs": ("asha", "hyperband", "median", "wilcoxon"),
    "pruner.across_families": ("asha", "hyperband", "median", "wilcoxon"),
    "pruner.reduction_factor": ("asha", "hyperband"),
    "pruner.p_threshold": ("wilcoxon",),
    "sampler.startup_trials": ("tpe", "gp", "cmaes", "nsga2"),
    "workers.address": ("ray",),
}
# Keys of a run that do not affect its result, left out of the command that repeats a trial.
_PLACES = ("output_dir", "resume", "evaluate_test", "tracking.", "trainer.progress")


@dataclass(frozen=True)
class BudgetSettings(Settings):
    """Limits after which no further trial begins, over all starts of the study."""

    trials: int | None = positive_int(
        "trials in all; null for no limit, as of a command line that states minutes alone", None
    )
    minutes: float | None = positive(
        "minutes of the whole race, from timing its families to its finalists; null for no limit",
        None,
    )
    epochs: int | None = positive_int("epochs of all trials together; null for no limit", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(vars(self).values()):
            raise ConfigError("trials, minutes and epochs are all null: one must be given.")


@dataclass(frozen=True)
class SamplerSettings(Settings):
    """The sampler, which proposes configurations."""

    name: Literal["tpe", "gp", "random", "cmaes", "grid", "qmc", "nsga2"] = setting(
        "Optuna's sampler"
    )
    startup_trials: int = positive_int(
        "random trials before it begins to learn; of nsga2 its population", 10
    )


@dataclass(frozen=True)
class PrunerSettings(Settings):
    """The pruner, which stops trials that will not win."""

    name: Literal["asha", "hyperband", "median", "wilcoxon", "none"] = setting("Optuna's pruner")
    min_epochs: int = positive_int(
        "epochs that every trial gets, with wilcoxon folds; a ninth of its whole length it gets in "
        "any case",
        2,
    )
    reduction_factor: int = setting("one trial in so many goes on to the next rung", 3, at_least=2)
    p_threshold: float = positive(
        "wilcoxon stops a trial whose folds would be as bad as that by chance with less than this "
        "probability, were it no worse than the best",
        0.1,
        below=1,
    )
    across_families: bool = setting(
        "compare trials of all families, instead of each within its own", False
    )


@dataclass(frozen=True)
class WorkersSettings(Settings):
    """The processes that run trials."""

    engine: Literal["local", "ray"] = setting("processes of this machine, or a Ray cluster")
    count: int | None = positive_int(
        "trials at the same time; null for one a GPU slot, without GPUs for what suits the cores",
        None,
    )
    per_gpu: int = positive_int("trials that share a GPU", 1)
    threads: int | None = positive_int(
        "CPU threads of a trial; null for an equal share of the cores", None
    )
    address: str | None = setting(
        "of the Ray cluster; local for a new one, null for the one that Ray finds, or starts", None
    )


def _plain_study(name: str) -> str:
    return plain(name, _MOST_BYTES_OF_STUDY, "._-").lstrip("._-")


def _study_problem(name: str) -> str | None:
    short = _plain_study(name)
    if name and short == unicodedata.normalize("NFC", name):
        return None
    such = f", such as {short}" if short else ""
    return (
        "it must be letters, digits, dots, _ or -, a letter or digit first, "
        f"{_MOST_BYTES_OF_STUDY} bytes of UTF-8 at most{such}"
    )


@dataclass(frozen=True)
class DashboardSettings(Settings):
    """`python -m src.sweeps.dashboard`."""

    config_name = "dashboard"

    study: str = setting(
        "name of the study, in output_dir/sweeps", check=_study_problem, literal=True
    )
    output_dir: str = setting("folder of the sweep", "outputs", literal=True)
    storage: str | None = setting(
        "any Optuna storage URL; null for a journal in the study's folder", None
    )
    port: int = positive_int("port on 127.0.0.1 to answer on", 8080, at_most=65535)

    @property
    def study_folder(self) -> Path:
        """The folder of the study."""
        return Path(self.output_dir).absolute() / "sweeps" / self.study


@dataclass(frozen=True)
class SweepSettings(RunSettings):
    """The settings of a study; those of a run in it are the base of all trials."""

    # None until `read_sweep_settings` names it.
    study: str = setting(
        "name of the study and of its folder in output_dir/sweeps; given again, the study goes on; "
        "null for that of the data set, or of the file in sweeps/ if it is not default.yaml",
        None,
        check=_study_problem,
        literal=True,
    )
    families: list[str] | Literal["auto"] = setting(
        "what races: files of sweeps/spaces/, networks of timm or torchvision, or auto for what "
        "suits the pictures",
        check=lambda names: None if names else "name at least one",
    )
    metric: str | list[str] = metric_setting(
        "what to optimize; several for a Pareto front, without pruning; auto for accuracy, map of "
        "several labels, kappa of ordered classes, mean IoU of pixels",
        "auto",
        lambda: ["auto", *map(plain_metric, metrics_of())],
    )
    search: list[str] | None = setting(
        "search only the keys that match one of these patterns, like model.*; null for all", None
    )
    budget: BudgetSettings = setting("when to end")
    sampler: SamplerSettings = setting("what proposes configurations")
    pruner: PrunerSettings = setting("what stops trials that will not win")
    workers: WorkersSettings = setting("where trials run")
    finalists: int = setting(
        "best configurations, as far as they differ, to train again over seeds", 3, at_least=0
    )
    finalist_seeds: int = positive_int("seeds of each finalist", 3)
    extra_trainings: int = setting(
        "trainings in all with further seeds, of statistically tied finalists, as long as "
        "that can help; beyond the budget",
        0,
        at_least=0,
    )
    failure_limit: float = positive(
        "share of failed trials that ends the sweep, once ten have ended", 0.5, at_most=1
    )
    storage: str | None = setting(
        "any Optuna storage URL; null for a journal in the study's folder", None
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.families != "auto" and len(set(self.families)) < len(self.families):
            raise ConfigError(f"families is {self.families}: one is named twice.")
        if len(set(self.metrics)) < len(self.metrics):
            raise ConfigError(f"metric is {self.metric}: one is named twice.")
        if (COST in self.metrics) != (self.costs is not None):
            raise ConfigError(
                "metric=cost and costs=FILE.csv go together: the file says what each mistake costs."
            )
        if self.pruner.name != "none" and len(self.metrics) > 1:
            raise ConfigError("metric names several: set pruner=none, for no pruner can judge.")
        if self.cv.is_whole or self.pruner.name == "wilcoxon":
            self._check_folds()
        elif self.pruner.name != "none" and self.judged_at_the_end:
            first, monitor = self.metrics[0], self.trainer.monitor
            known = monitored_metrics(self.data.target)
            remedy = f"or go by one of {', '.join(map(plain_metric, known))}"
            if first in known:
                remedy = f"or leave out trainer.monitor, which is {plain_metric(monitor)}"
            raise ConfigError(
                f"metric is {plain_metric(first)}, which is known at the end of a trial only: set "
                f"pruner=none, {remedy}."
            )

    @property
    def judged_at_the_end(self) -> bool:
        """Whether it goes by what is known at the end of a trial only, so that no pruner can."""
        first, *others = self.metrics
        monitor = self.trainer.monitor
        watched = first if monitor == "auto" else monitor
        return bool(others) or first not in reported_metrics(self.data.target, watched)

    def _check_model(self) -> None:
        """Check that the metric is measured; the models are those of the families."""
        target = self.data.target
        for name in self.metrics:
            if name not in metrics_of(target):
                raise ConfigError(
                    f"metric is {plain_metric(name)}, which is not measured with "
                    f"data.target={target}: set it to one of "
                    f"{', '.join(map(plain_metric, metrics_of(target)))}."
                )

    def _check_folds(self) -> None:
        """Check that folds are judged by the one pruner that pairs them, and that they suffice."""
        name, count = self.pruner.name, self.cv.count
        if not self.cv.is_whole:
            raise ConfigError(
                "pruner is wilcoxon, which compares trials fold by fold: set cv.folds=5, or "
                "another pruner."
            )
        if name not in ("wilcoxon", "none"):
            raise ConfigError(
                f"pruner is {name}, which compares trials epoch by epoch, but with cv.folds they "
                "report folds: set pruner=wilcoxon or pruner=none."
            )
        # The least p-value of all folds but the last, where each of them was worse.
        if name == "wilcoxon" and 0.5 ** (count - 1) >= self.pruner.p_threshold:
            raise ConfigError(
                f"pruner.p_threshold is {self.pruner.p_threshold:g}, which {count} folds cannot "
                f"reach before the last: set pruner.p_threshold={2 * 0.5 ** (count - 1):g}, more "
                "folds, cv.repeats=2 or pruner=none."
                if count > 2
                else f"pruner is wilcoxon, for which {count} folds are too few: set pruner=none."
            )

    @property
    def study_folder(self) -> Path:
        """The folder of the study."""
        return Path(self.output_dir).absolute() / "sweeps" / self.study

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics to go by, the first of which ranks."""
        if self.metric == "auto":
            return (primary_of(self.data.target),)
        names = (self.metric,) if isinstance(self.metric, str) else self.metric
        return tuple(map(key_of_metric, names))

    @property
    def directions(self) -> tuple[str, ...]:
        """`maximize` or `minimize` for each of `metrics`."""
        return tuple(map(direction_of, self.metrics))


def sweep_files() -> list[str]:
    """Return the names of the sweeps that `--config-name` takes: the files of sweeps/."""
    return sorted(path.stem for path in SWEEPS.glob("*.yaml"))


def sweep_choices() -> dict[str, list[str]]:
    """Return what a sweep's command line chooses by name: its config groups, and the families."""
    found = groups(SWEEPS, CONF, *plugin_folders("conf"), *plugin_folders("sweeps"))
    families = found.pop("spaces")
    for name in ("model", *_OF_A_RUN):  # the families bring the model
        del found[name]
    first = {name: found.pop(name) for name in ("sampler", "pruner", "workers")}
    return {"families": ["auto", *families], **first, **found}


def read_sweep_settings(overrides: Sequence[str], config_name: str) -> SweepSettings:
    """Return the settings of the study sweeps/<config_name>.yaml with these overrides.

    Minutes that are stated without a number of trials are the only limit but for epochs: the number
    in the file goes with the minutes in the file. Where a metric is stated that no pruner can go
    by, and no pruner is, there is none.

    Raises:
        ConfigError: an override or the file is wrong; the message is one sentence.
    """
    known = sweep_files()
    if config_name not in known:
        raise ConfigError(
            f"there is no sweeps/{config_name}.yaml: there are {', '.join(known)}"
            f"{nearest(config_name, known)}."
        )
    for override in overrides:
        _refuse_of_a_run(override, known)
    stated = {*map(key_of_override, overrides)}
    only_minutes = "budget.minutes" in stated and "budget.trials" not in stated

    def read(*further: str) -> SweepSettings:
        given = [*_shared(overrides), *further]
        plain = compose_plain(given, config_name, _FOLDERS, SweepSettings)
        unnamed = plain["study"] is None
        if unnamed:
            plain["study"] = config_name
        if only_minutes and plain["budget"]["minutes"] is not None:
            plain["budget"]["trials"] = None
        settings = from_plain(SweepSettings, plain)
        if unnamed and config_name == _USUAL_FILE:  # whose name says nothing
            name = _plain_study(settings.data.name) or config_name
            settings = dataclasses.replace(settings, study=name)
        return settings

    judged = any(key.startswith(("pruner", "cv.")) for key in stated)
    settings = read("pruner=none") if "metric" in stated and not judged else None
    if settings is None or not settings.judged_at_the_end:
        settings = read()
    _refuse_idle([*map(key_of_override, overrides)], settings)
    return settings


def _refuse_of_a_run(override: str, known: Collection[str]) -> None:
    """Raise ConfigError for an override that a single run may have, but no sweep.

    Args:
        known: names of the files of sweeps/.
    """
    key, value = split_override(override)
    if override in known:
        raise ConfigError(f"{override!r} is a file of sweeps/: use --config-name {override}.")
    if key in _OF_A_RUN:
        raise ConfigError(
            f"{override}: {key} is of a single run; a sweep is chosen by --config-name NAME."
        )
    if key == "model":
        raise ConfigError(
            f"{override}: the families decide the model; set families=[{value or '...'}]."
        )
    if key.startswith("model."):  # else a family's file would be called wrong
        value_of(override)
    if key == "resume":
        raise ConfigError("resume: the same command goes on with an unfinished study.")


def _refuse_idle(keys: Sequence[str], settings: SweepSettings) -> None:
    """Raise ConfigError for a key of the command line that changes nothing."""
    chosen = {
        "pruner": settings.pruner.name,
        "sampler": settings.sampler.name,
        "workers": settings.workers.engine,
    }
    for key in keys:
        group = key.partition(".")[0]
        if key in _USED_BY and chosen[group] not in _USED_BY[key]:
            users = " or ".join(f"{group}={name}" for name in _USED_BY[key])
            raise ConfigError(
                f"{key}: {group}={chosen[group]} does not use it: leave it out, or set {users}."
            )
        if key in ("finalist_seeds", "extra_trainings") and not settings.finalists:
            raise ConfigError(
                f"{key}: finalists=0 does not use it: leave it out, or set finalists=3."
            )


def base_overrides(overrides: Sequence[str], config_name: str) -> list[str]:
    """Return the overrides that all trials share on a command line of src.train.

    Args:
        overrides, config_name: as `read_sweep_settings` took them.
    """
    usual = chosen_options([], "config")
    shared = _shared(overrides)
    chosen = [
        f"{group}={option}"
        for group, option in chosen_options(shared, config_name, _FOLDERS).items()
        if group in usual and group != "model" and option != usual[group]
    ]
    reference = leaves(compose_plain(chosen, "config"))
    of_run = {f.name for f in dataclasses.fields(RunSettings)}
    own = leaves(compose_plain(shared, config_name, _FOLDERS, SweepSettings))
    own |= _aims(own, overrides)
    differing = [
        override_of(key, value)
        for key, value in own.items()
        if key.partition(".")[0] in of_run
        and not key.startswith(("model.", *_PLACES))
        and reference.get(key) != value
    ]
    return [*chosen, *differing, *(override for override in overrides if override not in shared)]


def _aims(plain: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, str]:
    """Return settings that make runs answer for the first metric of a sweep, and watch it."""
    metric, target = plain["metric"], plain["data.target"]
    first = key_of_metric(metric if isinstance(metric, str) else metric[0])
    key, values = _ANSWERS.get(target, ("", {}))
    found = {key: values[first]} if first in values and key not in by_key(overrides) else {}
    if plain["trainer.monitor"] == "auto" and first in monitored_metrics(target):
        found |= {"trainer.monitor": first} if first != primary_of(target) else {}
    return found


def _shared(overrides: Sequence[str]) -> list[str]:
    """Return all overrides but those of the model, which need a family to have a meaning."""
    return [override for override in overrides if not override.startswith("model.")]
