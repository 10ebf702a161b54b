"""Trials of a study: as records, as a part of the study, and which of the searched keys matter."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..records.trials import COMPLETE, FAILED, PRUNED, RUNNING, TrialRecord
from .space import FAMILY, Family

__all__ = [
    "STALE",
    "STATES",
    "StudySubset",
    "current",
    "enqueued_values",
    "importances",
    "rungs",
    "trial_record",
]

STATES = {
    TrialState.RUNNING: RUNNING,
    TrialState.COMPLETE: COMPLETE,
    TrialState.PRUNED: PRUNED,
    TrialState.FAIL: FAILED,
}
# Attribute of a trial: the steps that an abandoned attempt reported, since no storage can delete a
# report.
STALE = "stale"
# Keys of Optuna's own in what it keeps with a trial, of which it has no public reader.
_ENQUEUED = "fixed_params"
_RUNG = "completed_rung_"
# Fewest complete trials for an estimate.
_LEAST_TRIALS = 4


def current(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial as its last attempt has it, without what an abandoned one reported."""
    stale = trial.user_attrs.get(STALE)
    if stale is None:
        return trial
    found, curve = copy.copy(trial), trial.intermediate_values
    found.intermediate_values = {step: curve[step] for step in curve if step not in stale}
    found.system_attrs = {k: value for k, value in trial.system_attrs.items() if value is not None}
    return found


def enqueued_values(trial: FrozenTrial) -> dict[str, Any] | None:
    """Return the values that a trial was enqueued with, by stored name; None if it was not."""
    return trial.system_attrs.get(_ENQUEUED)


def rungs(trial: FrozenTrial) -> list[str]:
    """Return the keys of system attributes by which successive halving knows a trial's rungs."""
    return [key for key in trial.system_attrs if key.startswith(_RUNG)]


def trial_record(
    trial: FrozenTrial, families: Mapping[str, Family], directions: Sequence[str]
) -> TrialRecord:
    """Return a trial of a study as a record; directions as of `StudySpec`."""
    family = _family_of(trial, families)
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
        overrides=tuple(facts.get("overrides", ())),
        curve=curve,
        objectives=tuple(trial.values) if trial.state is TrialState.COMPLETE else None,
        best=best((value for _, value in curve), default=None),
        is_default=bool(facts.get("default")),
        figures=facts.get("figures", {}),
        **{key: facts.get(key) for key in ("seconds", "reason", "run_id", "run_dir")},
    )


def importances(
    trials: Sequence[FrozenTrial], families: Mapping[str, Family], directions: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return, by family and key, the share in how the first metric varies.

    PED-ANOVA (Watanabe et al., 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance
    in Arbitrary Subspaces") of each family's complete trials.

    Returns:
        shares that sum to 1 in a family; none of a family with too few trials, or in which
        nothing varies.
    """
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    found = {}
    for name, family in families.items():
        own = [trial for trial in complete if _family_of(trial, families) is family]
        if shares := _shares(own, directions):
            keys = {family.stored_name(p): p.name for p in family.parameters}
            found[name] = {keys[stored]: share for stored, share in shares.items()}
    return found


def _family_of(trial: FrozenTrial, families: Mapping[str, Family]) -> Family:
    """Return the family of a trial, which a study of a single one does not store."""
    return families[trial.params.get(FAMILY, next(iter(families)))]


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
    with suppress(ValueError, RuntimeError), warnings.catch_warnings():
        # Of each key that few trials had: most have some such keys.
        warnings.simplefilter("ignore", UserWarning)
        return optuna.importance.get_param_importances(alone, target=first)
    return {}


class StudySubset(Study):
    """Some trials of a study to read, as `current`; what is written goes to the whole study.

    The one class that uses private parts of Optuna. Its samplers read trials by `Study._get_trials`
    and write by the storage of their study, which can not be made of a storage and a filter. Copies
    of the trials in a second study would do without; but each proposal would copy hundreds, and
    what CMA-ES and NSGA-II keep with trials would not reach the study itself.

    Args:
        study: the whole.
        trials: returns those of it, by number; called where they are read, once.
        sampler: of the subset; None for the study's own.
    """

    def __init__(
        self,
        study: Study,
        trials: Callable[[], Sequence[FrozenTrial]],
        sampler: BaseSampler | None = None,
    ) -> None:
        self.__dict__.update(study.__dict__)
        # Hardly any was begun anew, and a pruner reads thousands for each report that it judges.
        self._own = cache(
            lambda: [current(one) if STALE in one.user_attrs else one for one in trials()]
        )
        if sampler is not None:
            self.sampler = sampler

    @property
    def best_trial(self) -> FrozenTrial:
        """The best complete trial of the subset; ValueError without one."""
        complete = self.get_trials(False, (TrialState.COMPLETE,))
        best = max if self.direction is StudyDirection.MAXIMIZE else min
        return best(complete, key=lambda trial: trial.values[0])

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        own = self._own()
        found = [*own] if states is None else [trial for trial in own if trial.state in states]
        return copy.deepcopy(found) if deepcopy else found

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return self.get_trials(deepcopy, states)
