"""Kinds of targets: one class a picture, a set of labels, ordered classes, or a class a pixel.

In: probabilities, targets and thresholds as arrays. Out: decisions, metrics, a score a picture, and
the binary problems that classifiers on features are fitted to. NumPy only; calls metrics alone, and
machine for the types of arrays.
"""

from __future__ import annotations

from .dense import Dense
from .kind import TargetKind, fixed_thresholds
from .multi import MultiLabel
from .ordinal import Ordinal
from .single import SingleLabel

__all__ = ["KINDS", "TargetKind", "fixed_thresholds", "kind_of"]

KINDS: dict[str, TargetKind] = {
    one.name: one for one in (SingleLabel(), MultiLabel(), Ordinal(), Dense())
}


def kind_of(name: str) -> TargetKind:
    """Return the kind with this name, one of `data.target`.

    Raises:
        ValueError: there is no such kind.
    """
    if name not in KINDS:
        raise ValueError(f"the kind of targets is {name!r}: it must be one of {', '.join(KINDS)}")
    return KINDS[name]
