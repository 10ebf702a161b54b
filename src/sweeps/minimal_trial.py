"""The minimal trial: the cheapest of a sweep, for a budget in which no other trial can finish.

It has the cheapest value of each searched key. If frozen networks have described the pictures, it
is a fit on their features. Else it belongs to the cheapest family, trains on few small pictures,
and its result is rough.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..config.overrides import by_key
from ..search.space import Family, Value
from .families import default_values, is_finetuned, is_from_scratch, is_of
from .prepared import Prepared

__all__ = ["minimal_trial"]

# Number of training pictures, and their side in pixels: for descriptors and networks from scratch,
# whose pictures may be stored at this size (`src.runs.candidates.settled`), and for published
# networks.
_PICTURES, _SIDE, _PUBLISHED_SIDE = 500, 32, 64
# Number of pictures with masks, each of which has thousands of labels, and of their pixels that a
# classifier of pixels learns from (magnetic tiles at 128 pixels: 4 CPU seconds, and 10 for answers
# about the validation part).
_WITH_MASKS, _PIXELS = 100, 5000
_CHEAP: Mapping[str, Value] = {
    "model.features": ["hog", "raw"],
    "model.hog.cells": [4],
    "model.classifier": "nearest_mean",
    "model.scaling": "blocks",
    "model.normalise": "none",
    "model.selection": "none",
    "model.widths": [16, 32, 64],
}


def minimal_trial(
    families: Iterable[Family],
    base: Iterable[str],
    shorter_side: int | None,
    prepared: Mapping[str, Prepared],
    pixels: bool = False,
) -> tuple[str, dict[str, Value], Prepared]:
    """Return the trial that takes the least time among these families.

    Args:
        families: at least one.
        base: overrides that all trials share, none of which is changed.
        shorter_side: median over the pictures of the shorter side, in pixels; None if unknown.
        prepared: results of the families that were measured, by name.
        pixels: whether pixels are classified, so that results at other sizes cannot be compared.

    Returns:
        the name of its family; the values of the searched keys; its further overrides, as measuring
        the family would have returned them.
    """
    base, families = tuple(base), list(families)
    for family in families:
        if family.name in prepared and prepared[family.name].is_described:
            return family.name, _values(family, base), prepared[family.name]
    family = min(families, key=_cost_rank)
    stated = {*by_key(base), *(one.key for one in family.parameters)}
    cheap = {"data.train_limit": _WITH_MASKS if pixels else _PICTURES}
    if is_of(family, "pixels"):
        cheap["model.pixels"] = _PIXELS
    if not pixels:
        published = is_finetuned(family) or is_of(family, "embedding")
        side = _PUBLISHED_SIDE if published else _SIDE
        if shorter_side is None or side < shorter_side:
            cheap["model.input_size" if published else "data.image_size"] = side
    if not is_of(family, "embedding", "handcrafted", "pixels"):
        cheap["trainer.max_epochs"] = 1
    overrides = [
        f"{key}={value}"
        for key, value in cheap.items()
        if key not in stated or key == "trainer.max_epochs"  # which every sweep sets
    ]
    return family.name, _values(family, base), Prepared(overrides, 1, 0.0)


def _cost_rank(family: Family) -> int:
    """Return the rank of a family by the cost of its trials, 0 for the cheapest."""
    if is_of(family, "handcrafted", "pixels"):
        return 0
    if is_from_scratch(family):
        return 1
    return 2 if is_of(family, "embedding") else 3


def _values(family: Family, base: tuple[str, ...]) -> dict[str, Value]:
    """Return the searched values of the default configuration, each replaced by a cheap one."""
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
