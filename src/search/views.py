"""Parts of a study, for samplers and pruners that are to look at no more than that."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from optuna.samplers import BaseSampler
from optuna.study import Study

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, TrialState

__all__ = ["FAMILY", "PartOfStudy"]

# The study's parameter that says which family a trial belongs to.
FAMILY = "family"


class PartOfStudy(Study):
    """A study of which only some trials are seen; what is written goes to the whole.

    Args:
        study: the whole.
        seen: whether a trial is.
        sampler: who proposes here; None for the study's own.
    """

    def __init__(
        self,
        study: Study,
        seen: Callable[[FrozenTrial], bool],
        sampler: BaseSampler | None = None,
    ) -> None:
        self.__dict__.update(study.__dict__)
        self._whole = study
        self._seen = seen
        if sampler is not None:
            self.sampler = sampler

    @property
    def best_trial(self) -> FrozenTrial:
        """The best complete trial of the part; Optuna's own looks at the whole.

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
        return [trial for trial in trials if self._seen(trial)]
