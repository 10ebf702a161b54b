"""Typed settings that check themselves.

A settings class is a dataclass derived from `Settings`; each field is declared with `setting(...)`,
which holds its meaning, default and range. `from_plain` turns a plain nested dict into such an
object, or raises `ConfigError`: one plain sentence naming key, value and what is allowed.

It is not built on pydantic or attrs. Plugins add members to a union and fields to a class after
both are defined, for which pydantic's models would be made again; its errors would be written anew
as such sentences; and importing it would add 0.1 to 0.2 s to every `--help`. attrs checks fields
but does not read nested containers.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import operator
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from ..machine.disk import NO_ROOM, refusal
from ..machine.imports import is_allowed, is_foreign
from ..machine.text import nearest, share_meant
from .credentials import credentials_problem, texts_of
from .type_messages import allowed_values, expected

if TYPE_CHECKING:
    from ..machine.failures import DiskRefuses

__all__ = [
    "ADDED",
    "ConfigError",
    "ForeignCode",
    "NotGiven",
    "Settings",
    "completed",
    "default_of",
    "distinct",
    "extended",
    "fraction",
    "from_plain",
    "input_of",
    "is_again",
    "is_literal",
    "not_written",
    "options_of",
    "own_fields",
    "positive",
    "positive_int",
    "setting",
    "to_plain",
    "variant",
    "variants_of",
]

T = TypeVar("T")


class ConfigError(ValueError):
    """The user's input is wrong; the message is one plain sentence for them. Exit code 2."""


def not_written(error: OSError, sentence: str) -> ConfigError | DiskRefuses:
    """Return the exception for a file that cannot be written: a full disk is no wrong input."""
    from ..machine.failures import DiskRefuses  # a bundle has these checks without it

    return DiskRefuses(sentence) if error.errno in NO_ROOM else ConfigError(sentence)


class WithoutEffect(ConfigError):
    """A setting changes nothing with the values of others.

    Attributes:
        key: the setting's.
    """

    def __init__(self, key: str, lacking: str) -> None:
        super().__init__(
            f"{key}: it changes nothing without {lacking}; set that as well, or leave it out."
        )
        self.key = key


class ForeignCode(ConfigError):
    """Settings name code, or a group of settings, that no allowed plugin brings."""


class NotGiven(ConfigError):
    """A setting without a default has no value.

    Args:
        key, meaning: its dotted key, and what it is.
    """

    def __init__(self, key: str, meaning: str) -> None:
        super().__init__(f"{key} is missing: set {key}=VALUE ({meaning}).")
        self.key = key


@contextmanager
def input_of(key: str = "") -> Iterator[None]:
    """Turn a ValueError into a ConfigError about this setting or group, whose choice led to it.

    So is a file that may not be read or written, or whose folder may not be looked into.
    """
    try:
        yield
    except ConfigError:
        raise
    except (ValueError, PermissionError) as error:
        reason = refusal(error) if isinstance(error, PermissionError) else str(error)
        if reason is None:
            raise
        text = f"{key}: {reason}" if key else reason
        raise ConfigError(f"{text}{'' if text.endswith(('.', '?')) else '.'}") from error


_BOUNDS = {
    "above": operator.gt,
    "at least": operator.ge,
    "below": operator.lt,
    "at most": operator.le,
}


def setting(
    meaning: str,
    default: Any = dataclasses.MISSING,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    check: Callable[[Any], str | None] | None = None,
    literal: bool = False,
    options: Callable[[], Sequence[str]] | None = None,
) -> Any:
    """Declare a field of a `Settings` class: its meaning with unit, and what it may be.

    Args:
        meaning: one line for the help.
        default: of a key that neither conf/ nor the command line gives; without one, one of them
            has to give it.
        above, at_least, below, at_most: bounds of a number, or of each in a list. None itself is
            checked by the type alone, so an optional field needs no exception in its bounds.
        check: returns what is wrong with a value ("it must ..."), or None.
        literal: whether the command line's text is the value as it stands, as for paths.
        options: returns the names that `check` takes, for help and completion, where the type does
            not say them.
    """
    limits = {"above": above, "at least": at_least, "below": below, "at most": at_most}
    return dataclasses.field(
        default_factory=dataclasses.MISSING
        if default is dataclasses.MISSING
        else partial(copy.copy, default),  # a list belongs to one object
        kw_only=True,
        metadata={
            "meaning": meaning,
            "bounds": {relation: bound for relation, bound in limits.items() if bound is not None},
            "check": check,
            "literal": literal,
            "options": options,
        },
    )


fraction = partial(setting, at_least=0, at_most=1)
positive = partial(setting, above=0)
positive_int = partial(setting, at_least=1)


def distinct(values: Sequence[Any]) -> str | None:
    """Return the fault of a list that is empty or repeats itself, or None: a `check`."""
    fine = values and len(set(values)) == len(values)
    return None if fine else "it must name at least one, and each once"


def _problem(field: dataclasses.Field[Any], value: Any) -> str | None:
    """Return the fault of a field's value, or None."""
    bounds, check = field.metadata.get("bounds", {}), field.metadata.get("check")
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool):
            within = (_BOUNDS[relation](item, bound) for relation, bound in bounds.items())
            if not (math.isfinite(item) and all(within)):
                allowed = " and ".join(
                    f"{relation} {bound:g}" for relation, bound in bounds.items()
                )
                is_share = bool(bounds) and min(bounds.values()) == 0 and max(bounds.values()) <= 1
                meant = share_meant(item) if is_share else ""
                return f"it must be {allowed or 'finite'}{meant}"
    return None if check is None else check(value)


# Names of fields whose values are taken literally from the command line.
_LITERAL: set[str] = set()


def is_literal(key: str) -> bool:
    """Return whether a dotted key names a field that was declared `literal`."""
    return key.rpartition(".")[2] in _LITERAL


class Settings:
    """Base of every settings class; checks its own fields on construction.

    Attributes:
        config_name: of the file in conf/ that all settings of a command are composed from; a group
            of settings has none.

    Raises:
        ConfigError: naming the field, its value and what is allowed.
    """

    config_name: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, field in vars(cls).items():
            if isinstance(field, dataclasses.Field) and field.metadata.get("literal"):
                _LITERAL.add(name)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            for text in texts_of(value):
                if problem := credentials_problem(text, field.name):
                    raise ConfigError(f"{field.name}: {problem}.")
            if value is not None and (problem := _problem(field, value)):
                raise ConfigError(f"{field.name} is {value!r}: {problem}.")


# Settings classes with a common base, told apart by `_target_`: base -> target -> class.
_VARIANTS: dict[type, dict[str, type]] = {}
# Groups of settings that `added_groups` gave a class: class -> name -> (group's class, meaning).
ADDED: dict[type, dict[str, tuple[type, str]]] = {}


def is_again(known: Any, new: Any) -> bool:
    """Return whether a class or function is another one anew, from a file that is imported again.

    As in a notebook, once what made the file fail below was mended.
    """
    return (known.__module__, known.__qualname__) == (new.__module__, new.__qualname__)


def variant(base: type, target: str) -> Callable[[type[T]], type[T]]:
    """Register a settings class as the one that describes `_target_: target` within `base`.

    The registry is also the allowlist: a `_target_` that is not in it cannot be built.

    Raises:
        ConfigError: another class describes the target, or the decorated one is no dataclass,
            whose fields nobody would read.
    """

    def register(cls: type[T]) -> type[T]:
        if vars(cls).get("__annotations__") and "__dataclass_fields__" not in vars(cls):
            raise ConfigError(
                f"{cls.__name__}: decorate it with @dataclass(frozen=True) below @variant."
            )
        known = _VARIANTS.setdefault(base, {})
        if not is_again(other := known.get(target, cls), cls):
            raise ConfigError(f"{cls.__name__}: {other.__name__} describes {target} already.")
        known[target] = cls
        return cls

    return register


def variants_of(base: type[T]) -> dict[str, type[T]]:
    """Return the registered settings classes of a base by their `_target_`."""
    return dict(_VARIANTS.get(base, {}))


@cache
def extended(cls: type) -> type:
    """Return the subclass with what was added to `cls` and its bases; `cls` where nothing was."""
    added = {name: one for base in cls.__mro__ for name, one in ADDED.get(base, {}).items()}
    if not added:
        return cls
    fields = [
        (name, part, dataclasses.field(default_factory=part, kw_only=True, metadata={"meaning": m}))
        for name, (part, m) in added.items()
    ]
    namespace = {"__doc__": cls.__doc__, "__module__": cls.__module__}
    return dataclasses.make_dataclass(
        cls.__name__, fields, bases=(cls,), frozen=True, namespace=namespace
    )


def default_of(field: dataclasses.Field[Any], hint: Any = None) -> Any:
    """Return a field's default; {} for a group of settings, which bring theirs; or MISSING."""
    if isinstance(hint, type) and issubclass(hint, Settings) and hint not in _VARIANTS:
        return {}
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def completed(cls: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested plain settings with the defaults of the keys that are not given.

    What is no setting of the class stays as it is, for `from_plain` to refuse.
    """
    found, chosen = dict(plain), _chosen(cls, plain)
    if chosen is None:
        return found
    hints = _hints(chosen)
    for field in dataclasses.fields(chosen):
        hint = hints[field.name]
        given = found.get(field.name, default_of(field, hint))
        if given is dataclasses.MISSING:
            continue
        group = isinstance(hint, type) and issubclass(hint, Settings)
        inner = group and isinstance(given, Mapping)
        found[field.name] = completed(hint, given) if inner else to_plain(given)
    return found


@cache
def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except (NameError, SyntaxError, TypeError) as error:
        raise ConfigError(
            f"{cls.__module__}.{cls.__name__}: the types of its fields cannot be read: {error}."
        ) from error


def options_of(cls: type, key: str, plain: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return the values, as they are typed, that a setting or each item of its list is one of.

    Empty for a setting that may also be a number or free text. null (None) is not among them.

    Args:
        cls: the settings class.
        key: of a field, or a dotted one of those within it.
        plain: the nested settings that say which variant a group is; None for a field of `cls`.
    """
    name, _, inner = key.partition(".")
    chosen = _chosen(cls, plain or {})
    field = getattr(chosen, "__dataclass_fields__", {}).get(name)
    if chosen is None or field is None:
        return ()
    hint, named = _hints(chosen)[name], field.metadata.get("options")
    if not inner:
        return tuple(named()) if named else allowed_values(hint)
    group = (plain or {}).get(name)
    return options_of(hint, inner, group) if isinstance(hint, type) and group else ()


def from_plain(cls: type[T], plain: Mapping[str, Any], where: str = "") -> T:
    """Build settings of type `cls` from nested plain containers.

    Args:
        cls: a `Settings` dataclass, or a base with variants.
        plain: str keys; values None, bool, int, float, str, lists and dicts of these.
        where: dotted path of `plain` inside the whole config, for messages.

    Raises:
        ConfigError: unknown or missing key, wrong type, value out of range, `_target_` not allowed.
    """
    made: Any = _chosen(cls, plain)
    if made is None:
        raise _not_allowed(cls, plain.get("_target_"), _join(where, "_target_"))
    hints = _hints(made)
    names = [field.name for field in dataclasses.fields(made)]
    for key in plain:
        if key not in names:
            what = f"{_join(where, key)}: there is no such key{nearest(key, names)}"
            if isinstance(plain[key], Mapping):
                raise ForeignCode(f"{what}; if a plugin brings it, set plugins=FOLDER or MODULE.")
            raise ConfigError(f"{what}.")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(made):
        path = _join(where, field.name)
        given = plain.get(field.name, default_of(field, hints[field.name]))
        if given is dataclasses.MISSING or given == "???":
            raise NotGiven(path, field.metadata.get("meaning", "it has no default"))
        values[field.name] = _typed(hints[field.name], given, path)
    try:
        return typing.cast(T, made(**values))
    except ConfigError as error:
        # A field's own complaint names the field; prefix it with where the field stands.
        raise ConfigError(f"{where}.{error}" if where else str(error)) from None


def own_fields(settings: Settings, base: type[Settings]) -> dict[str, Any]:
    """Return the fields that a variant has beyond its base: the arguments of what it describes."""
    shared = getattr(base, "__dataclass_fields__", {})  # Settings itself has no fields
    return {name: value for name, value in vars(settings).items() if name not in shared}


def to_plain(settings: Any) -> Any:
    """Return the nested plain containers that `from_plain` takes back."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {f.name: to_plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}
    if isinstance(settings, list | tuple):
        return [to_plain(item) for item in settings]
    return settings


def _chosen(cls: type, plain: Mapping[str, Any]) -> type | None:
    """Return the class of plain settings, with what was added to it; None without a variant."""
    options = _VARIANTS.get(cls)
    if options is None:
        return extended(cls)
    target = plain.get("_target_")
    return extended(options[target]) if isinstance(target, str) and target in options else None


def _not_allowed(cls: type, target: Any, path: str) -> ConfigError:
    if target is None:
        return ConfigError(f"{path} is missing: it names the code that the settings are for.")
    if isinstance(target, str) and is_foreign(target) and is_allowed(target):
        return ConfigError(
            f"{path} is {target!r}, which no settings describe{nearest(target, _VARIANTS[cls])}: "
            f'decorate those of it with @variant({cls.__name__}, "{target}").'
        )
    what = f"{path} is {target!r}, which is not on the project's allowlist"
    if isinstance(target, str) and "." in target and is_foreign(target):
        module = target.partition(".")[0]
        return ForeignCode(
            f"{what}: if you trust the code, set plugins=FOLDER with the folder of {module}.py "
            f"or plugins={module} where it is installed."
        )
    return ConfigError(f"{what}{nearest(target, _VARIANTS[cls])}.")


def _typed(hint: Any, value: Any, path: str) -> Any:
    """Return `value` as the annotated type; raise ConfigError where it is none."""
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
            with suppress(ConfigError):
                return _typed(choice, value, path)
    elif get_origin(hint) is Literal:
        if any(type(value) is type(one) and value == one for one in get_args(hint)):
            return value
    elif get_origin(hint) is list:
        if isinstance(value, list | tuple):
            (item,) = get_args(hint)
            if item is str:  # a command line has no quotes left, and names may be numbers
                value = [str(v) if type(v) in (int, float) else v for v in value]
            return [_typed(item, v, f"{path}[{i}]") for i, v in enumerate(value)]
    elif isinstance(hint, type) and (dataclasses.is_dataclass(hint) or hint in _VARIANTS):
        if isinstance(value, Mapping):
            return from_plain(hint, value, path)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif hint in (int, str, bool) and type(value) is hint:
        return value
    raise ConfigError(f"{path} is {value!r}: it must be {expected(hint, value, path)}.")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
