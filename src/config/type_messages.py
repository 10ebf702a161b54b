"""What a type of a setting allows, for messages and for the completion of command lines."""

from __future__ import annotations

import dataclasses
import re
import types
from typing import Any, Literal, Union, get_args, get_origin

from ..machine.text import nearest

__all__ = ["allowed_values", "expected"]

_MOST_NAMED = 3  # keys of a group in a message, at most
_WITH_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*(%|[A-Za-z]+)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def expected(hint: Any, value: Any, path: str) -> str:
    """Return what a value of another type must be, with the option that it may have meant."""
    if get_origin(hint) is not list and (values := allowed_values(hint)):
        return f"one of {', '.join(values)}{nearest(value, values)}"
    choices = _members(hint)
    named = tuple(str(one) for c in choices if get_origin(c) is Literal for one in get_args(c))
    text = _described(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        names = [field.name for field in dataclasses.fields(hint)][:_MOST_NAMED]
        given = f"={value}" if type(value) in (int, float) else ""
        return f"{text}, such as {' or '.join(f'{path}.{name}{given}' for name in names)}"
    # Numbers may stand with anything between them, as in 224x224.
    numbers = "each a whole number" in text or "each a number" in text
    items = re.findall(r"[\d.]+", str(value)) if numbers else [str(value)]
    example = f", as in [{','.join(items)}]" if value and items and "a list" in text else ""
    if {int, float} & set(choices) and (number := _number_meant(str(value), path)):
        example = f", as in {path}={number}"
    return f"{text}{example}{nearest(value, named)}" if isinstance(value, str) else text


def allowed_values(hint: Any) -> tuple[str, ...]:
    """Return the values, as they are typed, of a type that has no others; None is not named."""
    found = list[str]()
    for choice in _members(hint):
        if get_origin(choice) is Literal:
            found += [_typed_as(one) for one in get_args(choice)]
        elif get_origin(choice) is list and (values := allowed_values(get_args(choice)[0])):
            found += values
        elif choice is not type(None):
            return ()
    return tuple(found)


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the type itself alone."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _typed_as(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number_meant(text: str, path: str) -> str | None:
    """Return the number of a text such as `10m` or `5%`, in the unit of the setting, or None."""
    found = _WITH_UNIT.fullmatch(text.strip())
    if found is None:
        return None
    number, unit = float(found[1]), found[2].lower()
    if unit == "%":
        return f"{number / 100:g}"
    measured = re.split("[._]", path)[-1]
    if measured in ("seconds", "minutes") and unit[0] in _SECONDS:
        return f"{number * _SECONDS[unit[0]] / _SECONDS[measured[0]]:g}"
    return f"{number:g}" if unit in ("px", "pixels") else None


def _described(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        lists_last = sorted(get_args(hint), key=lambda one: str(one).startswith("list"))
        return " or ".join(map(_described, lists_last))
    if get_origin(hint) is Literal:
        return ", ".join(map(_typed_as, get_args(hint)))
    if get_origin(hint) is list:
        return f"a list, each {_described(get_args(hint)[0])}"
    kinds = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return kinds.get(hint, "null" if hint is type(None) else "a group of settings")
