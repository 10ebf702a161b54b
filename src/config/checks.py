"""Typed settings that check themselves.

A settings class is a dataclass derived from `Settings`; each field is declared with `setting(...)`,
which holds its meaning and its allowed values. `from_plain` turns a plain nested dict into such an
object and raises `ConfigError`, one plain sentence naming key, value and what is allowed.
Values have no defaults here: conf/ says what a run is, this module says what it may be.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, Union, get_args, get_origin

from src.config.credentials import credentials_problem, texts_of

__all__ = [
    "ConfigError",
    "Settings",
    "from_plain",
    "nearest",
    "number_or_auto",
    "setting",
    "to_plain",
    "variant",
]

T = TypeVar("T")


class ConfigError(ValueError):
    """The user's input is wrong; the message is one plain sentence for them. Exit code 2."""


@dataclass(frozen=True)
class _Rule:
    """What a single value may be. Bounds are inclusive unless `above`/`below`."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    options: tuple[Any, ...] | None = None
    check: Callable[[Any], str | None] | None = None

    def allowed(self) -> str:
        parts = [
            f"{word} {bound:g}"
            for word, bound in (
                ("above", self.above),
                ("at least", self.at_least),
                ("below", self.below),
                ("at most", self.at_most),
            )
            if bound is not None
        ]
        return " and ".join(parts)

    def complaint(self, value: Any) -> str | None:
        """What is wrong with `value`, or None."""
        if self.options is not None and value not in self.options:
            return f"it must be one of {_listed(self.options)}{nearest(str(value), self.options)}"
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, int | float) and not isinstance(item, bool):
                outside = (
                    not math.isfinite(item)
                    or (self.above is not None and item <= self.above)
                    or (self.at_least is not None and item < self.at_least)
                    or (self.below is not None and item >= self.below)
                    or (self.at_most is not None and item > self.at_most)
                )
                if outside:
                    return f"it must be {self.allowed() or 'finite'}"
        return self.check(value) if self.check is not None else None


def setting(
    meaning: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    options: Iterable[Any] | None = None,
    check: Callable[[Any], str | None] | None = None,
) -> Any:
    """Declare a field of a `Settings` class: its meaning with unit, and what it may be.

    `check` returns what is wrong with a value ("it must ..."), or None. None itself is checked by
    the type alone, so an optional field needs no exception in its bounds.
    """
    rule = _Rule(
        above, at_least, below, at_most, None if options is None else tuple(options), check
    )
    return dataclasses.field(metadata={"meaning": meaning, "rule": rule})


def number_or_auto(value: Any) -> str | None:
    """What is wrong with a setting that is a number or `auto`: a `check` for `setting`."""
    return None if value == "auto" or isinstance(value, int) else "it must be auto or a number"


class Settings:
    """Base of every settings class; checks its own fields on construction.

    Raises:
        ConfigError: naming the field, its value and what is allowed.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            for text in texts_of(value):
                if problem := credentials_problem(text, field.name):
                    raise ConfigError(f"{field.name}: {problem}.")
            rule: _Rule | None = field.metadata.get("rule")
            if rule is not None and value is not None and (problem := rule.complaint(value)):
                raise ConfigError(f"{field.name} is {value!r}: {problem}.")


# Settings classes with a common base, told apart by `_target_`: base -> target -> class.
_VARIANTS: dict[type, dict[str, type]] = {}


def variant(base: type, target: str) -> Callable[[type[T]], type[T]]:
    """Register a settings class as the one that describes `_target_: target` within `base`.

    The registry is also the allowlist: a `_target_` that is not in it cannot be built.
    """

    def register(cls: type[T]) -> type[T]:
        _VARIANTS.setdefault(base, {})[target] = cls
        return cls

    return register


def nearest(word: str, options: Iterable[Any]) -> str:
    """' (did you mean ...?)' with the option nearest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, [str(o) for o in options], n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def from_plain(cls: type[T], plain: Mapping[str, Any], where: str = "") -> T:
    """Build settings of type `cls` from nested plain containers.

    Args:
        cls: a `Settings` dataclass, or a base with variants.
        plain: str keys; values None, bool, int, float, str, lists and dicts of these.
        where: dotted path of `plain` inside the whole config, for messages.

    Raises:
        ConfigError: unknown or missing key, wrong type, value out of range, `_target_` not allowed.
    """
    cls = _chosen_variant(cls, plain, where)
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in plain:
        if key not in names:
            raise ConfigError(f"{_join(where, key)}: there is no such key{nearest(key, names)}.")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        path = _join(where, field.name)
        if field.name not in plain or plain[field.name] == "???":
            raise ConfigError(f"{path} is not set: say {path}=VALUE.")
        values[field.name] = _typed(hints[field.name], plain[field.name], path)
    try:
        return cls(**values)
    except ConfigError as error:
        # A field's own complaint names the field; prefix it with where the field stands.
        raise ConfigError(f"{where}.{error}" if where else str(error)) from None


def to_plain(settings: Any) -> Any:
    """The nested plain containers that `from_plain` takes back."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {f.name: to_plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    if isinstance(settings, list | tuple):
        return [to_plain(item) for item in settings]
    return settings


def _chosen_variant(cls: type[T], plain: Mapping[str, Any], where: str) -> type[T]:
    options = _VARIANTS.get(cls)
    if options is None:
        return cls
    target = plain.get("_target_")
    if target not in options:
        raise ConfigError(
            f"{_join(where, '_target_')} is {target!r}, which is not on the project's allowlist"
            f"{nearest(str(target), options)}."
        )
    return options[target]


def _typed(hint: Any, value: Any, path: str) -> Any:
    """`value` as the annotated type, or a ConfigError."""
    if isinstance(value, str) and not value.strip():
        # No setting means anything when it is empty, and an empty path would be the present folder.
        raise ConfigError(
            f"{path} is empty: give it a value or leave it out (perhaps the command line takes it "
            "from a shell variable that is not set)."
        )
    if get_origin(hint) in (Union, types.UnionType):
        choices = get_args(hint)
        if value is None and type(None) in choices:
            return None
        # Exact types first, so that `int | str` keeps an int and `float | str` takes 1 as 1.0 last.
        exact = [c for c in choices if isinstance(c, type) and type(value) is c]
        for choice in exact + [c for c in choices if c not in exact and c is not type(None)]:
            try:
                return _typed(choice, value, path)
            except ConfigError:
                continue
    elif get_origin(hint) is list:
        if isinstance(value, list | tuple):
            (item,) = get_args(hint)
            return [_typed(item, v, f"{path}[{i}]") for i, v in enumerate(value)]
    elif isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hint in _VARIANTS):
        if isinstance(value, Mapping):
            return from_plain(hint, value, path)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    raise ConfigError(f"{path} is {value!r}: it must be {_described(hint)}.")


def _described(hint: Any) -> str:
    if hint is None or hint is type(None):
        return "null"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_described(h) for h in get_args(hint))
    if get_origin(hint) is list:
        return f"a list, each {_described(get_args(hint)[0])}"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(hint, "a group of settings")


def _listed(options: Iterable[Any]) -> str:
    return ", ".join(str(o) for o in options)


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
