"""What a study holds, as records: its trials, and which of the searched keys matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from src.records.trials import COMPLETE, FAILED, PRUNED, RUNNING, TrialRecord
from src.search.space import FAMILY, Family

__all__ = ["STATES", "family_of", "importances", "trial_record"]

STATES = {
    TrialState.RUNNING: RUNNING,
    TrialState.COMPLETE: COMPLETE,
    TrialState.PRUNED: PRUNED,
    TrialState.FAIL: FAILED,
}
# Fewer complete trials show nothing.
_LEAST_TRIALS = 4


def family_of(trial: FrozenTrial, families: Mapping[str, Family]) -> Family:
    """Return the family of a trial, which a study of a single one does not store."""
    return families[trial.params.get(FAMILY, next(iter(families)))]


def trial_record(
    trial: FrozenTrial, families: Mapping[str, Family], directions: Sequence[str]
) -> TrialRecord:
    """Return a trial of a study as a record.

    Args:
        trial: of the study.
        families: by name.
        directions: "maximize" or "minimize", one a metric.
    """
    family = family_of(trial, families)
    by_name = {family.stored_name(p): p for p in family.parameters}
    values = {
        by_name[name].key: by_name[name].value(stored)
        for name, stored in trial.params.items()
        if name in by_name
    }
    curve = tuple(sorted(trial.intermediate_values.items()))
    facts = trial.user_attrs
    best = max if directions[0] == "maximize" else min
    return TrialRecord(
        number=trial.number,
        family=family.name,
        state=STATES.get(trial.state, RUNNING),
        values=values,
        words=tuple(facts.get("words", ())),
        curve=curve,
        objectives=tuple(trial.values) if trial.state is TrialState.COMPLETE else None,
        best=best((value for _, value in curve), default=None),
        seconds=facts.get("seconds"),
        figures=facts.get("figures", {}),
        reason=facts.get("reason"),
        run_id=facts.get("run_id"),
        run_dir=facts.get("run_dir"),
        is_default=bool(facts.get("default")),
    )


def importances(
    trials: Sequence[FrozenTrial], families: Mapping[str, Family], directions: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return, by family and key, the share in how the first metric varies.

    PED-ANOVA (Watanabe et al., 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance
    in Arbitrary Subspaces") of each family's complete trials.

    Args:
        trials: of the study.
        families: by name.
        directions: "maximize" or "minimize", one a metric.

    Returns:
        shares that sum to 1 in a family; none of a family with too few trials, or in which
        nothing varies.
    """
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    found = {}
    for name, family in families.items():
        own = [trial for trial in complete if family_of(trial, families) is family]
        if shares := _shares(own, directions):
            keys = {family.stored_name(p): p.name for p in family.parameters}
            found[name] = {keys[stored]: share for stored, share in shares.items()}
    return found


def _shares(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> dict[str, float]:
    """Return the shares by stored name, from complete trials of one family."""
    if len(trials) < _LEAST_TRIALS:
        return {}
    alone = optuna.create_study(directions=[StudyDirection[name.upper()] for name in directions])
    for trial in trials:
        params = {name: value for name, value in trial.params.items() if name != FAMILY}
        distributions = {name: trial.distributions[name] for name in params}
        alone.add_trial(
            create_trial(params=params, distributions=distributions, values=trial.values)
        )
    first = (lambda trial: trial.values[0]) if len(directions) > 1 else None
    with suppress(ValueError, RuntimeError):
        return optuna.importance.get_param_importances(alone, target=first)
    return {}
