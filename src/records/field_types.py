"""Values of records that come from files, checked against the annotations of their fields."""

from __future__ import annotations

import math
import types
import typing
from numbers import Real
from typing import Any

__all__ = ["check_type"]

_ALLOWED = {
    str: "text",
    str | None: "text or nothing",
    int: "a whole number",
    int | None: "a whole number or nothing",
    bool: "true or false",
    float: "a finite number",
    list[str] | None: "texts or nothing",
    dict[str, float]: "numbers by name",
    dict[str, list[float]] | None: "lists of numbers by name, or nothing",
}


def check_type(name: str, value: Any, hint: Any) -> None:
    """Check that a field's value is what its annotation says.

    Raises:
        ValueError: it is not; the message names the field, the value and what is allowed.
    """
    fits = isinstance(value, int | float) and math.isfinite(value) if hint is float else True
    if not (fits and _fits(value, hint)):
        raise ValueError(f"{name} is {value!r}: it must be {_ALLOWED[hint]}.")


def _fits(value: Any, hint: Any) -> bool:
    kinds = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(_fits(value, kind) for kind in kinds)
    if typing.get_origin(hint) is dict:
        return isinstance(value, dict) and all(
            _fits(key, kinds[0]) and _fits(one, kinds[1]) for key, one in value.items()
        )
    if typing.get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(one, kinds[0]) for one in value)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, Real if hint is float else hint)
