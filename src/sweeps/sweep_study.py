"""The study of a sweep: its specification, and the record of its results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..config.checks import ConfigError, to_plain
from ..config.compose import compose_plain
from ..config.metrics import primary_of
from ..config.nested import leaves
from ..config.overrides import CONSTANTS, by_key, override_of, split_override, without_keys
from ..config.plugins import plugin_overrides
from ..config.sweep import SweepSettings, base_overrides, read_sweep_settings
from ..data.sources.costs import CostTable
from ..machine.package import command
from ..metrics.summary import metric_name
from ..records.trials import NetworkRecord, SweepRecord
from ..search.pruning import make_pruner
from ..search.space import Family, StudySpec
from ..search.study import SweepStudy
from ..targets import kind_of
from .earlier_command import kept_command, name_and_place, shorter_command
from .families import load_families
from .finalists import TEST, kept_finalists
from .further_seeds import extra_trainings, kept_looks
from .prepared import kept_preparations, reasons_without_trial
from .short_budget import report_rough_result, report_single_family
from .tasks import SweepJobs, commands

__all__ = [
    "CLOSED",
    "ROUGH",
    "SECOND",
    "changed_proposals",
    "metric_line",
    "record_of",
    "resuming_command",
    "spent",
    "steps_of",
    "study_spec",
]

# Key in a study of the family that a longer budget would allow, with its minutes.
SECOND = "second"
# Key in a study of the budget for which the minimal trial was run, and of a larger one.
ROUGH = "rough"
# Key in a study of the families of which no further trial was proposed, by name with the reason.
CLOSED = "closed"
# Key in a study of the settings of the sampler and the pruner of its last start.
_PROPOSALS = "proposals"
_FOLDERS = ("data.root", "data.cache_dir")


def study_spec(
    settings: SweepSettings,
    families: Sequence[Family],
    base: Sequence[str],
    costs: CostTable | None = None,
) -> StudySpec:
    """Return the specification of a study: its identity, sampler and pruner.

    Args:
        base: overrides that all trials share.
        costs: of mistakes, if trials are judged by them.
    """
    epochs = settings.trainer.max_epochs
    sets, folds = kind_of(settings.data.target).sets, steps_of(settings) == "folds"
    return StudySpec(
        name=settings.study,
        families=families,
        metrics={key: metric_name(key, sets=sets, folds=folds) for key in settings.metrics},
        directions=settings.directions,
        identity={
            "metric": list(settings.metrics),
            "direction": list(settings.directions),
            # What a table of costs says is below, wherever its file lies.
            "base": sorted(without_keys(base, ["costs"])),
            "families": {family.name: family.plain() for family in families},
            **({} if costs is None else {"costs": costs.plain()}),
        },
        sampler=settings.sampler.name,
        startup_trials=settings.sampler.startup_trials,
        seed=settings.seed,
        pruner=make_pruner(settings.pruner, epochs if isinstance(epochs, int) else 30),
        meaning=_meaning,
    )


def _meaning(identity: dict[str, Any]) -> dict[str, Any]:
    """Return the identity of a study as it is the same however it is stated.

    Folders are absolute, as `src.api` states them and a command line may not, and the metric that
    runs watch by themselves is not stated.
    """
    stated = [split_override(override) for override in identity["base"]]
    by_itself = f"trainer.monitor={_watched_by_itself(dict(stated))}"
    base = []
    for key, value in stated:
        local = key in _FOLDERS and value not in CONSTANTS and "://" not in value
        base.append(f"{key}={os.path.abspath(value) if local else value}")
    return {**identity, "base": sorted(one for one in base if one != by_itself)}


def _watched_by_itself(settings: Mapping[str, Any]) -> str:
    """Return the metric that runs watch with `trainer.monitor=auto`."""
    return primary_of(settings.get("data.target", "single"))


def resuming_command(settings: SweepSettings, begun: Mapping[str, Any]) -> str | None:
    """Return a command that resumes a study of this identity; None if there is none.

    The command states the study's value of each setting whose default has changed since the study
    began. Search spaces, and what follows from other settings, cannot be stated: there is no
    command if they have changed.
    """
    kept = kept_command(settings.study_folder)
    if kept is None:
        return None
    overrides, config_name = kept
    given = without_keys(overrides, ["plugins"])
    try:
        search = read_sweep_settings(given, config_name).search
        families = load_families(list(begun["families"]), begun["base"], search)
        shared = [override for override in begun["base"] if not override.startswith("model.")]
        then = leaves(compose_plain(shared, "config"))
        if then["trainer.monitor"] == "auto":  # which a sweep may state otherwise by itself
            then["trainer.monitor"] = _watched_by_itself(then)
        now = base_overrides(given, config_name)
    except ConfigError:  # this version has no such family or key
        return None
    if _searched(families) != begun["families"]:
        return None
    unstated = by_key(now).keys() - by_key(given).keys()
    changed = [override_of(key, then[key]) for key in sorted(unstated & then.keys())]
    added = [override for override in changed if override not in begun["base"]]
    if not added:
        return shorter_command(settings)
    stated = without_keys(base_overrides([*given, *added], config_name), ["costs"])
    if _meaning({"base": stated}) != _meaning({"base": begun["base"]}):
        return None  # what was not stated then is chosen otherwise now
    own = without_keys(overrides, ["study", "output_dir"])
    named = name_and_place(settings)
    return command("sweep", "--config-name", config_name, *own, *added, *named)


def _searched(families: Sequence[Family]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps({one.name: one.plain() for one in families}))
    return found


def spent(study: SweepStudy) -> float:
    """Return the seconds that all starts of a study took, without the pauses between them."""
    return float(study.recall("spent") or 0.0)


def changed_proposals(study: SweepStudy, settings: SweepSettings, ended: bool) -> str | None:
    """Return a sentence on settings of sampler and pruner that the last start had not; or None.

    They may differ from start to start: each concerns the trials that are yet to come. An
    `ended` study has none, and keeps those that it had.
    """
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


def steps_of(settings: SweepSettings) -> str:
    """Return the unit of a trial's reports: "folds" or "epochs"."""
    return "folds" if settings.cv.is_whole else "epochs"


def metric_line(settings: SweepSettings, names: Sequence[str]) -> str:
    """Return a line on what trials are ranked and pruned by.

    Args:
        names: of the metrics, for readers.
    """
    name, pruner = settings.pruner.name, "no trial is pruned"
    if name != "none":
        step = steps_of(settings).removesuffix("s")
        pruner = f"trials are pruned by it after each {step} (pruner={name})"
    if len(names) > 1:
        return f"metrics: {' and '.join(names)}; {pruner}"
    better = "higher" if settings.directions[0] == "maximize" else "lower"
    return f"metric: {names[0]}, {better} is better; {pruner}"


def record_of(jobs: SweepJobs) -> SweepRecord:
    """Return the current record of a sweep's study."""
    study, settings, families, costs = jobs.study, jobs.settings, jobs.families, jobs.costs
    place = name_and_place(settings)[1:]
    trials = tuple(study.trials())
    finalists = kept_finalists(study, settings.directions[0])
    final: dict[str, Any] = study.recall(TEST) or {}
    looks = kept_looks(study)
    winner = next((one for one in finalists if one.trial == final.get("winner")), None)
    prepared = kept_preparations(study)
    again = shorter_command(settings)
    return SweepRecord(
        study=settings.study,
        metrics=settings.metrics,
        directions=settings.directions,
        families=tuple(families),
        trials=trials,
        base=tuple(jobs.base),
        commands=commands(trials, winner, settings.cv.is_whole),
        importances=study.importances(),
        finalists=finalists,
        winner=final.get("winner"),
        test=final.get("metrics", {}),
        test_measurements=final.get("measurements"),
        caution=final.get("caution", ""),
        constant=final.get("constant", ""),
        seconds=spent(study),
        steps=steps_of(settings),
        networks=tuple(
            NetworkRecord(**{**network, "family": name})
            for name, one in prepared.items()
            for network in one.networks
        ),
        looks=max(1, len(looks)),
        extra_trainings=extra_trainings(looks),
        data=settings.data.name,
        parts=next((one.parts for one in prepared.values() if one.parts), {}),
        costs=None if costs is None else costs.plain(),
        next_step=command("compare", *plugin_overrides(), f"sweep={settings.study}", *place),
        short=(
            rough
            if any(rough := report_rough_result(trials, study.recall(ROUGH), again))
            else report_single_family(trials, families, study.recall(SECOND), again)
        ),
        left_out=reasons_without_trial(study),
        closed=study.recall(CLOSED) or {},
        reduced={name: one.reduction for name, one in prepared.items()},
    )
