"""Optuna's pruners, with each family judged by its own trials."""

from __future__ import annotations

import binascii
import bisect
import itertools
import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.study import Study, StudyDirection

from ..config.sweep import PrunerSettings
from .space import FAMILY
from .study_trials import StudySubset

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["make_pruner"]

# Fraction of a trial before which none is stopped, since schedules are still warming up. In the
# recorded trainings of benchmarks/curves the ranks after 1/27 correlate by 0.6 and 0.3 with those
# at the end, after a ninth by 0.8 and 0.8.
_LEAST_SHARE = 9


def make_pruner(settings: PrunerSettings, max_epochs: int) -> BasePruner:
    """Return the pruner of a study whose trials report every epoch or fold, counted from 1.

    "asha" is Li et al. (2020), "A System for Massively Parallel Hyperparameter Tuning"; "hyperband"
    Li et al. (2018); "median" Golovin et al. (2017); "wilcoxon" Wilcoxon (1945), "Individual
    Comparisons by Ranking Methods", of folds, each paired with the same one of the best trial.

    Args:
        settings: none is stopped before `min_epochs`, nor before a ninth of a whole trial; of
            "wilcoxon" they are folds.
        max_epochs: of a whole trial.
    """
    first = max(settings.min_epochs, math.ceil(max_epochs / _LEAST_SHARE))
    factor = settings.reduction_factor
    inner: BasePruner
    match settings.name:
        case "asha":
            halving = SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
            inner = _NeverFewerThanTwo(halving)
        case "hyperband":
            inner = _Hyperband(first, max_epochs, factor)
        case "median":
            inner = MedianPruner(n_startup_trials=4, n_warmup_steps=first)
        case "wilcoxon":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                inner = WilcoxonPruner(
                    p_threshold=settings.p_threshold, n_startup_steps=settings.min_epochs
                )
        case _:
            return NopPruner()
    return _Field(inner, across_families=settings.across_families)


class _NeverFewerThanTwo(BasePruner):
    """Never stops the best two at an epoch.

    A family of a small sweep has six trials, and the first of them, its own configuration, is hard
    to beat: it alone would be trained to its end, though others are within a picture or two of it.
    """

    def __init__(self, inner: BasePruner) -> None:
        self._inner = inner

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or not self._inner.prune(study, trial):
            return False
        value = trial.intermediate_values[step]
        sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
        known = [other.intermediate_values.get(step) for other in study.get_trials(deepcopy=False)]
        better = sum(other is not None and sign * other > sign * value for other in known)
        return math.isnan(value) or better >= 2


class _Field(BasePruner):
    """Compares a trial with those of its family alone, as families start at different speeds.

    With all, if `across_families`.
    """

    def __init__(self, inner: BasePruner, *, across_families: bool) -> None:
        self._inner = inner
        self._across_families = across_families
        # By family, the numbers of its trials: each is looked at until it has one, which it keeps.
        self._numbers: defaultdict[str, list[int]] = defaultdict(list)
        self._undrawn: list[int] = []
        self._seen = 0

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        family = trial.params.get(FAMILY)  # None where the study has a single one

        def others() -> list[FrozenTrial]:
            known = study.get_trials(deepcopy=False)
            if self._across_families or family is None:
                return known
            self._update(known)
            return [known[number] for number in self._numbers[family]]

        return self._inner.prune(StudySubset(study, others), trial)

    def _update(self, known: Sequence[FrozenTrial]) -> None:
        new, self._undrawn = [*self._undrawn, *range(self._seen, len(known))], []
        self._seen = len(known)
        for number in new:
            family = known[number].params.get(FAMILY)
            bisect.insort(self._undrawn if family is None else self._numbers[family], number)


class _Hyperband(BasePruner):
    """Successive halving in brackets that begin to prune at 1, 3, 9 ... times `min_epochs`.

    Optuna's own reads the whole study, whatever subset it is given; this one halves within what it
    is given. Trials go to brackets in the shares of Li et al. (2018), algorithm 1, drawn by
    their number.
    """

    def __init__(self, min_epochs: int, max_epochs: int, reduction_factor: int) -> None:
        rungs = max(max_epochs, min_epochs) / min_epochs
        # The small sum keeps log(27, 3) from ending below 3.
        count = 1 + math.floor(math.log(rungs) / math.log(reduction_factor) + 1e-9)
        self._halving = [
            SuccessiveHalvingPruner(
                min_resource=min_epochs,
                reduction_factor=reduction_factor,
                min_early_stopping_rate=bracket,
            )
            for bracket in range(count)
        ]
        later = [count - 1 - bracket for bracket in range(count)]
        self._shares = [math.ceil(count * reduction_factor**s / (s + 1)) for s in later]

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        bracket = self.bracket(trial.number)

        def own() -> list[FrozenTrial]:
            known = study.get_trials(deepcopy=False)
            return [other for other in known if self.bracket(other.number) == bracket]

        return self._halving[bracket].prune(StudySubset(study, own), trial)

    def bracket(self, number: int) -> int:
        """Return the bracket of the trial with this number; 0 prunes first."""
        place = binascii.crc32(str(number).encode()) % sum(self._shares)
        ends = itertools.accumulate(self._shares)
        return next(bracket for bracket, end in enumerate(ends) if place < end)
