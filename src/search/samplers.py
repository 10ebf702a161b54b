"""Who proposes the next configuration: Optuna's samplers, made anew for each trial.

A sampler that is made from (seed, number of the trial) and otherwise only looks at the study draws
the same after an interruption as without one.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler

from src.search.space import Family

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

__all__ = ["check_sampler", "family_sampler", "grid", "make_sampler"]

_ONE_PLAIN_SPACE = ("cmaes", "grid", "qmc")


def check_sampler(name: str, families: Sequence[Family], objectives: int) -> None:
    """Refuse what a sampler cannot do.

    Raises:
        ValueError: in plain words.
    """
    if name in _ONE_PLAIN_SPACE:
        if len(families) > 1 or families[0].conditional:
            raise ValueError(
                f"sampler={name} takes a single family whose keys have no conditions: name one "
                "family, fix the keys that others depend on, or say sampler=tpe"
            )
        if not families[0].parameters:
            raise ValueError(f"sampler={name} has nothing to choose: no key is searched")
    if name == "grid":
        for parameter in families[0].parameters:
            if not (parameter.choices or parameter.step or parameter.whole):
                raise ValueError(
                    f"sampler=grid needs choices or a step for {parameter.key}, a range of floats"
                )
    if name == "cmaes":
        for parameter in families[0].parameters:
            if parameter.choices:
                raise ValueError(f"sampler=cmaes takes numbers only, and {parameter.key} is none")
    if objectives > 1 and name not in ("tpe", "nsga2", "random", "grid", "qmc"):
        raise ValueError(f"sampler={name} takes one metric: say sampler=nsga2 or sampler=tpe")


def make_sampler(
    name: str, families: Sequence[Family], *, seed: int, number: int, startup_trials: int
) -> BaseSampler:
    """The sampler for the trial with this number.

    TPE is the multivariate one of Bergstra et al. (2011) and Falkner et al. (2018), which takes
    each family's keys as a group of their own.
    """
    make = partial(_sampler, name, study_seed=seed, startup_trials=startup_trials)
    return _PerParameter(make, _seed(seed, number))


def _sampler(name: str, draw: int, *, study_seed: int, startup_trials: int) -> BaseSampler:
    from optuna import samplers

    match name:
        case "tpe":
            return _tpe(draw, startup_trials)
        case "gp":
            return samplers.GPSampler(
                seed=draw,
                n_startup_trials=startup_trials,
                independent_sampler=_tpe(draw, startup_trials),
            )
        case "random" | "grid":  # a grid is enqueued; see `grid`
            return samplers.RandomSampler(seed=draw)
        case "cmaes":
            return samplers.CmaEsSampler(seed=draw, n_startup_trials=startup_trials)
        case "qmc":
            # A sequence is one only if its scrambling stays the same.
            return samplers.QMCSampler(seed=study_seed, scramble=True)
        case "nsga2":
            return samplers.NSGAIISampler(seed=draw)
    raise ValueError(f"there is no sampler {name!r}")


class _PerParameter(BaseSampler):
    """Draws each parameter that is drawn alone from a seed of its own.

    So the rest of a trial, whose driver was killed while it was being drawn, comes out the same.
    """

    def __init__(self, make: Callable[[int], BaseSampler], draw: int) -> None:
        self._make = make
        self._draw = draw
        self._joint = make(draw)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._joint.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._joint.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        alone = self._make(_seed(self._draw, param_name))
        return alone.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._joint.before_trial(study, trial)


def family_sampler(name: str, *, seed: int, number: int, startup_trials: int) -> BaseSampler:
    """The sampler that chooses among families for the trial with this number.

    A single choice is nothing for a model of many dimensions: where the named sampler learns, TPE
    of one parameter does it here.
    """
    from optuna import samplers

    draw = _seed(seed, number)
    if name == "random":
        return samplers.RandomSampler(seed=draw)
    return samplers.TPESampler(seed=draw, n_startup_trials=startup_trials, multivariate=False)


def _tpe(seed: int, startup_trials: int) -> BaseSampler:
    from optuna.samplers import TPESampler

    return TPESampler(
        seed=seed,
        n_startup_trials=startup_trials,
        multivariate=True,
        group=True,
    )


def grid(family: Family, seed: int) -> list[dict[str, Any]]:
    """Every combination of the family's values, as the study stores them, in a shuffled order."""
    axes: list[list[tuple[str, Any]]] = []
    for parameter in family.parameters:
        if parameter.choices:
            values = [parameter.stored(value) for value in parameter.choices]
        else:
            step = parameter.step or 1
            count = round((parameter.high - parameter.low) / step) + 1
            # Rounded, so that 0.1 * 3 is the 0.3 that a default may have.
            values = [round(parameter.low + step * i, 12) for i in range(count)]
        axes.append([(family.stored_name(parameter), value) for value in values])
    combinations = [dict(one) for one in itertools.product(*axes)]
    random.Random(seed).shuffle(combinations)
    return combinations


def _seed(seed: int, what: int | str) -> int:
    digest = hashlib.blake2b(f"{seed}:{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
