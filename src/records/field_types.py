"""Values of records that come from files, checked against the annotations of their fields."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable
from functools import cache
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
    if not (fits and _of(hint)(value)):
        raise ValueError(f"{name} is {value!r}: it must be {_ALLOWED[hint]}.")


@cache  # a comparison reads a thousand records, and asking annotations takes most of a check
def _of(hint: Any) -> Callable[[Any], bool]:
    """Return what says whether a value is of an annotation."""
    kinds, origin = [_of(kind) for kind in typing.get_args(hint)], typing.get_origin(hint)
    if isinstance(hint, types.UnionType):
        return lambda value: any(fits(value) for fits in kinds)
    if origin is dict:
        key_fits, fits = kinds
        return lambda value: (
            isinstance(value, dict) and all(key_fits(k) and fits(v) for k, v in value.items())
        )
    if origin is list:
        (fits,) = kinds
        return lambda value: isinstance(value, list) and all(map(fits, value))
    if hint is bool:
        return lambda value: isinstance(value, bool)
    # Python's own numbers first: to ask an abstract class takes ten times as long.
    kind = (float, int, Real) if hint is float else hint
    return lambda value: isinstance(value, kind) and not isinstance(value, bool)
