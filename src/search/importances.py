"""Which of the searched keys matter."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from src.search.views import FAMILY

__all__ = ["key_shares"]

# With fewer there is nothing to tell.
_LEAST_TRIALS = 4


def key_shares(trials: Sequence[FrozenTrial], directions: Sequence[str]) -> dict[str, float]:
    """By stored name, the share in how the first metric varies (PED-ANOVA: Watanabe et al., 2023).

    Args:
        trials: complete ones of one family.
        directions: "maximize" or "minimize", one a metric.

    Returns:
        shares that sum to 1; empty where the trials are too few, or nothing varies.
    """
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
