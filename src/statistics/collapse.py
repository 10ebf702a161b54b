"""Find collapsed trainings, which learnt far less than their repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from ..machine.arrays import BoolArray, Float64Array
from ..records.comparison import Interval
from .candidates import Candidate

__all__ = ["collapsed_trainings", "exact_interval"]


# Of what the best repeat knows more than a constant answer: one that lacks so much has collapsed,
# and one that lacks less may be far off among repeats that are close together.
_LOST, _FAR_OFF = 0.75, 0.25
# Times the range of the other repeats.
_TIMES_THE_RANGE = 3.0
# Standard errors of the paired difference to the best repeat, which finite pictures explain.
_ERRORS_BY_CHANCE = 5.0
# Times the median loss of all repeats of the field, which unstable trainings explain.
_BEYOND_OTHERS = 4.0
_ENOUGH_LOSSES = 3


def collapsed_trainings(candidates: Sequence[Candidate], constant: float) -> list[BoolArray]:
    """Return for each candidate, (R,) bool, which of its trainings collapsed.

    A mean and a spread say nothing about trainings of which most reach 88 % and one in ten ends at
    a tenth of that. A training counts as collapsed if it lost three quarters of what the best of
    its repeats is ahead of a constant answer, or more than one quarter while most of its repeats
    are close together; in both cases more than finite pictures and the usual spread of the field's
    trainings explain. Repeats that lie anywhere between are unstable, which the effect of seeds
    covers.

    Args:
        candidates: of a field.
        constant: accuracy of the best constant answer, the share of the most frequent class.
    """
    losses, errors = [], []
    for one in candidates:
        accuracy = one.right.mean(axis=1)
        best = int(accuracy.argmax())
        losses.append(accuracy[best] - accuracy)
        changed = (one.right != one.right[best]).mean(axis=1)
        errors.append(np.sqrt(changed / one.right.shape[1]))
    below = np.concatenate([np.sort(one)[1:] for one in losses])
    usual = float(np.median(below)) if len(below) >= _ENOUGH_LOSSES else 0.0
    found = []
    for one, lost, error in zip(candidates, losses, errors):
        known = max(0.0, float(one.right.mean(axis=1).max()) - constant)
        explained = np.maximum(_ERRORS_BY_CHANCE * error, _BEYOND_OTHERS * usual)
        found.append((lost > explained) & _far_behind(lost, known))
    return found


def _far_behind(lost: Float64Array, known: float) -> BoolArray:
    """Return (R,) bool: which repeats lost nearly all, or are far off from most of the others."""
    behind = lost > _LOST * known
    far_off = lost > _FAR_OFF * known
    kept = lost[~far_off]
    if (
        far_off.sum() < len(kept)
        and lost[far_off].min(initial=np.inf) > _TIMES_THE_RANGE * kept.max()
    ):
        return far_off
    return behind


def exact_interval(events: int, trials: int, confidence: float = 0.95) -> Interval:
    """Return the exact interval of a share (Clopper & Pearson, Biometrika 1934).

    Args:
        events: within 0 and `trials`.
        trials: at least 1.
        confidence: within 0 and 1.
    """
    tail = (1 - confidence) / 2
    low = float(betaincinv(events, trials - events + 1, tail)) if events else 0.0
    high = float(betaincinv(events + 1, trials - events, 1 - tail)) if events < trials else 1.0
    return Interval(low, high)
