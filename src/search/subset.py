"""A study of which samplers and pruners see some trials only.

The one module that uses private parts of Optuna. Its samplers read trials by `Study._get_trials`
and write by the storage of the study that they are given, so that an object of another kind will
not do, and a study cannot be made of a storage and a filter. A second study that holds copies of
the trials would do without; but each proposal would copy hundreds of them, and what CMA-ES and
NSGA-II keep with trials would not reach the study itself.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from optuna.samplers import BaseSampler
from optuna.study import Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState

__all__ = ["StudySubset"]


class StudySubset(Study):
    """Some trials of a study to read; what is written goes to the whole study.

    Args:
        study: the whole.
        includes: whether a trial belongs to the subset.
        sampler: of the subset; None for the study's own.
    """

    def __init__(
        self,
        study: Study,
        includes: Callable[[FrozenTrial], bool],
        sampler: BaseSampler | None = None,
    ) -> None:
        self.__dict__.update(study.__dict__)
        self._whole = study
        self._includes = includes
        if sampler is not None:
            self.sampler = sampler

    @property
    def best_trial(self) -> FrozenTrial:
        """The best complete trial of the subset; Optuna's own property reads the whole study.

        Raises:
            ValueError: there is none.
        """
        complete = [t for t in self.get_trials(False) if t.state.name == "COMPLETE"]
        best = max if self.direction.name == "MAXIMIZE" else min
        return best(complete, key=lambda trial: trial.values[0])

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._some(self._whole.get_trials(deepcopy, states))

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return self._some(self._whole._get_trials(deepcopy, states, use_cache))

    def _some(self, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        return [trial for trial in trials if self._includes(trial)]
