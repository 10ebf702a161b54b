"""A field that was chosen from more candidates by a single training of each.

A search ends with a few finalists, trained again with seeds that did not choose them. Their new
seeds chose nothing, but their pictures are those on which the search found them good: of many
trials the best are also those that suit these very pictures, in every training. So the errors of
all trials count: in the width of intervals, and in what the winner's figure is too good by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .candidates import Candidate

__all__ = ["Screening"]


@dataclass(frozen=True, eq=False)
class Screening:
    """The trials that a field was chosen from.

    Attributes:
        trials: T of them, each with its single training.
        place: by the name of a candidate of the field, the index of its own trial; a candidate is
            missing whose trial is not known.
    """

    trials: Sequence[Candidate]
    place: dict[str, int]

    @property
    def others(self) -> tuple[Candidate, ...]:
        """The trials that are not in the field."""
        inside = set(self.place.values())
        return tuple(one for index, one in enumerate(self.trials) if index not in inside)

    def with_trial(self, one: Candidate) -> Candidate:
        """Return a candidate of the field with the training that it was chosen by beside its own.

        What is expected of it, given all of its trainings, does not depend on how it was chosen.
        """
        if one.name not in self.place:
            return one
        trial = self.trials[self.place[one.name]]
        if set(trial.run_ids) & set(one.run_ids):
            return one
        scores = None
        if one.scores is not None and trial.scores is not None:
            scores = np.concatenate([one.scores, trial.scores])
        return replace(
            one,
            run_ids=(*one.run_ids, *trial.run_ids),
            right=np.concatenate([one.right, trial.right]),
            log_losses=np.concatenate([one.log_losses, trial.log_losses]),
            calibration_errors=None,
            costs=None,
            scores=scores,
        )
