"""The least trial of all, for a race whose budget lets nothing else end: an answer, not a good one.

It is one of a family that races, with the cheapest of what that may choose, on few small pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..search.space import Family, Value
from .families import FROM_SCRATCH, default_values, is_of
from .prepared import Prepared

__all__ = ["least_trial"]

# Training pictures, and pixels of a side: of descriptors and networks from scratch, for which the
# pictures may be there in this size (`src.runs.candidates.choose`), and of published networks.
_PICTURES, _SIDE, _PUBLISHED_SIDE = 500, 32, 64
_CHEAP: Mapping[str, Value] = {
    "model.features": ["hog", "raw"],
    "model.hog.cells": [4],
    "model.classifier": "nearest_mean",
    "model.scaling": "blocks",
    "model.normalise": "none",
    "model.selection": "none",
    "model.widths": [16, 32, 64],
}


def least_trial(
    families: Iterable[Family], base: Iterable[str], shorter_side: int | None, pixels: bool = False
) -> tuple[str, dict[str, Value], Prepared]:
    """Return the trial that takes least, of all that these families allow.

    Args:
        families: that race, at least one.
        base: overrides that all trials share, none of which is changed.
        shorter_side: of the usual picture, in pixels; None where it is not known.
        pixels: whether classes are of pixels, so that figures of other sizes do not compare.

    Returns:
        the name of its family; values of what is searched; the rest of it, in the place of what
        measuring the family would have given.
    """
    base = tuple(base)
    family = min(families, key=_dearness)
    stated = {word.partition("=")[0] for word in base} | {one.key for one in family.parameters}
    words = {"data.train_limit": _PICTURES}
    if not pixels:
        published = "recipe=finetune" in family.overrides or is_of(family, "embedding")
        side = _PUBLISHED_SIDE if published else _SIDE
        if shorter_side is None or side < shorter_side:
            words["model.input_size" if published else "data.image_size"] = side
    if not is_of(family, "embedding", "handcrafted", "pixels"):
        words["trainer.max_epochs"] = 1
    overrides = [
        f"{key}={value}"
        for key, value in words.items()
        if key not in stated or key == "trainer.max_epochs"  # which all sweeps state
    ]
    return family.name, _values(family, base), Prepared(overrides, 1, 0.0)


def _dearness(family: Family) -> int:
    """Return the place of a family among kinds, the cheapest first."""
    if is_of(family, "handcrafted", "pixels"):
        return 0
    if is_of(family, *FROM_SCRATCH):
        return 1
    return 2 if is_of(family, "embedding") else 3


def _values(family: Family, base: tuple[str, ...]) -> dict[str, Value]:
    """Return the family's own configuration with what is cheaper of each key that is searched."""
    own = default_values(family, base)
    known: dict[str, Any] = dict(family.constants)
    values: dict[str, Value] = {}
    for parameter in family.parameters:
        if parameter.applies(known):
            value = own.get(parameter.key, parameter.extremes()[0])
            if _CHEAP.get(parameter.key) in parameter.choices:
                value = _CHEAP[parameter.key]
            values[parameter.key] = known[parameter.key] = value
    return values
