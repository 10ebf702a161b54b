"""The study of a sweep: its specification, and the record of its results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config.plugins import plugin_overrides
from ..config.sweep import SweepSettings
from ..data.sources.costs import CostTable
from ..machine.package import command
from ..records.trials import NetworkRecord, SweepRecord
from ..search.pruning import make_pruner
from ..search.space import Family, StudySpec
from ..search.study import SweepStudy
from .earlier_command import shorter_command
from .finalists import TEST, kept_finalists
from .further_seeds import extra_trainings, kept_looks
from .prepared import kept_preparations
from .short_budget import report_single_family
from .tasks import commands

__all__ = ["SECOND", "record_of", "spent", "steps_of", "study_spec"]

# Key in a study of the family that a longer budget would allow, with its minutes.
SECOND = "second"


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
    return StudySpec(
        name=settings.study,
        families=families,
        directions=settings.directions,
        identity={
            "metric": list(settings.metrics),
            "direction": list(settings.directions),
            "base": sorted(base),
            "families": {family.name: family.plain() for family in families},
            **({} if costs is None else {"costs": costs.plain()}),
        },
        sampler=settings.sampler.name,
        startup_trials=settings.sampler.startup_trials,
        seed=settings.seed,
        pruner=make_pruner(settings.pruner, epochs if isinstance(epochs, int) else 30),
        metric_names=settings.metrics,
    )


def spent(study: SweepStudy) -> float:
    """Return the seconds that all starts of a study took, without the pauses between them."""
    return float(study.recall("spent") or 0.0)


def steps_of(settings: SweepSettings) -> str:
    """Return the unit of a trial's reports: "folds" or "epochs"."""
    return "folds" if settings.cv.is_whole else "epochs"


def record_of(
    study: SweepStudy,
    settings: SweepSettings,
    families: Sequence[str],
    base: Sequence[str],
    costs: CostTable | None,
) -> SweepRecord:
    """Return the current record of a study.

    Args:
        families: their names.
        base: overrides that all trials share.
        costs: of mistakes, if trials are judged by them.
    """
    trials = tuple(study.trials())
    finalists = kept_finalists(study, settings.directions[0])
    final: dict[str, Any] = study.recall(TEST) or {}
    looks = kept_looks(study)
    winner = next((one for one in finalists if one.trial == final.get("winner")), None)
    prepared = kept_preparations(study)
    place = [] if settings.output_dir == "outputs" else [f"output_dir={settings.output_dir}"]
    again = shorter_command(settings)
    return SweepRecord(
        study=settings.study,
        metrics=settings.metrics,
        directions=settings.directions,
        families=tuple(families),
        trials=trials,
        base=tuple(base),
        commands=commands(trials, winner, settings.cv.is_whole),
        importances=study.importances(),
        finalists=finalists,
        winner=final.get("winner"),
        test=final.get("metrics", {}),
        test_measurements=final.get("measurements"),
        caution=final.get("caution", ""),
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
        parts=next((one.parts for one in prepared.values()), {}),
        costs=None if costs is None else costs.plain(),
        next_step=command("compare", *plugin_overrides(), f"sweep={settings.study}", *place),
        only=report_single_family(trials, families, study.recall(SECOND), again),
    )
