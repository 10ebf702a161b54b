"""Single overrides, `key=value`: read as Hydra reads them, and written so that it does."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from ..machine.text import without_quotes
from .checks import ConfigError, is_literal
from .other_names import hint_for_hydra

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

    from .models import ModelSettings

__all__ = [
    "CONSTANTS",
    "by_key",
    "changed",
    "key_of_override",
    "output_overrides",
    "override_of",
    "parse_override",
    "split_override",
    "value_of",
    "with_values",
    "without_keys",
]

_Model = TypeVar("_Model", bound="ModelSettings")

# Values of fields that are declared `literal` are taken as they stand, because Hydra's grammar
# would read spaces, brackets, `=`, commas, `~` or `${` in a path as something else.
CONSTANTS = {"null": None, "true": True, "false": False}
# hydra.run.dir, hydra/launcher, +hydra@x, hydra={...}: of its groups and keys none has an effect.
_HYDRAS_OWN = re.compile(
    r"[+~]*(override +)?/*(hydra($|[./@:])|[^=]*@/*(_global_\.)?hydra($|[.:]))"
)
# What a value may hold beside letters and lists, of which quotes would make plain letters.
_STRUCTURE = re.compile(r"[{}()\"'\\$]")
_NOT_ASCII = re.compile(r"[^\[\],]*[^\x00-\x7f\[\],][^\[\],]*")
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_./@+-]+")


@lru_cache(maxsize=1 << 12)  # some milliseconds each, and a sweep's trials share most of them
def parse_override(argument: str) -> Override:
    """Return one override as Hydra reads it.

    Raises:
        ConfigError: the argument is no override, or one of Hydra's own settings.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, _ = argument.partition("=")
    if _HYDRAS_OWN.match(key):
        raise ConfigError(
            f"{argument!r}: Hydra's own settings play no part here; {hint_for_hydra(argument)}."
        )
    if equals and not key.strip("+~ "):
        raise ConfigError(f"{argument!r} names no setting: settings are given as KEY=VALUE.")
    try:
        return OverridesParser.create().parse_override(_with_quotes(argument))
    except HydraException:
        if not equals:
            raise ConfigError(
                f"{argument!r} is not understood: settings are given as KEY=VALUE, spaces in "
                "quotes."
            ) from None
        if argument.count("[") > argument.count("]"):  # the shell divided it at a space
            raise ConfigError(
                f"{argument!r} has no closing bracket: write lists without spaces, {key}=[A,B], or "
                f"all of it in quotes, '{key}=[A, B]'."
            ) from None
        raise ConfigError(
            f"{argument!r} cannot be read: put a value with special characters into quotes, "
            f"""{key}='"VALUE"'."""
        ) from None


def _with_quotes(argument: str) -> str:
    """Return an override with quotes around values, also those of a list, of other letters than
    ASCII, which Hydra's grammar knows within quotes alone.
    """
    key, equals, value = argument.partition("=")
    if value.isascii() or _STRUCTURE.search(value):
        return argument
    quoted = _NOT_ASCII.sub(lambda found: f'"{found[0].strip(" ")}"', value)
    return f"{key}{equals}{quoted}"


def split_override(override: str) -> tuple[str, str]:
    """Return the key that an override sets, or all of an argument without a `=`, and its text.

    Hydra's `+key` and `++key` are the key itself, as there are no others than those that exist.
    """
    key, _, text = override.partition("=")
    return key.lstrip("+"), text


def key_of_override(override: str) -> str:
    """Return the first part of `split_override`."""
    return split_override(override)[0]


def by_key(overrides: Iterable[str]) -> dict[str, str]:
    """Return the overrides by their keys; of one key, the last."""
    return {key_of_override(override): override for override in overrides}


def without_keys(overrides: Iterable[str], keys: Container[str]) -> list[str]:
    """Return the overrides that set none of these keys."""
    return [override for override in overrides if key_of_override(override) not in keys]


def changed(overrides: Iterable[str], changes: Iterable[str]) -> list[str]:
    """Return overrides in which `changes` replace those of the same keys; a later change wins."""
    newer = by_key(changes)
    return [*without_keys(overrides, newer), *newer.values()]


def override_of(key: str, value: Any) -> str:
    """Return the override that gives `key` a plain value, nested or not; inverts `value_of`."""
    if isinstance(value, str) and is_literal(key) and value not in CONSTANTS:
        return f"{key}={value}"
    return f"{key}={_written(value)}"


def output_overrides(output_dir: str | Path) -> list[str]:
    """Return the override that names an output folder on a command line; none for the default."""
    is_default = Path(output_dir).absolute() == Path("outputs").absolute()
    return [] if is_default else [f"output_dir={output_dir}"]


def _written(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(_written(item) for item in value)}]"
    if not isinstance(value, str):
        return next((name for name, known in CONSTANTS.items() if value is known), repr(value))
    if _PLAIN_TEXT.fullmatch(value) and parse_override(f"x={value}").value() == value:
        return value
    escaped = re.sub(r"(\\*)(\"|$)", lambda m: m[1] * 2 + ("\\" if m[2] else "") + m[2], value)
    return f'"{escaped}"'


def value_of(argument: str) -> Any:
    """Return the value of a `key=value`: literally for paths, else as Hydra reads it.

    Raises:
        ConfigError: the argument is no override.
    """
    key, value = split_override(argument)
    return (
        CONSTANTS.get(value, _as_typed(value))
        if is_literal(key)
        else parse_override(argument).value()
    )


def _as_typed(path: str) -> str:
    """Return a path without quotes around it and with the folder that `~` stands for.

    A shell does both, but not behind a `=`, within quotes, or in a pasted argument. A path that
    exists is returned unchanged; blanks, invisible characters and quotes of any kind around what
    exists, and the `file://` that a file manager puts before it, go as well.
    """
    if os.path.lexists(path):
        return path
    while len(path) > 1 and path[0] == path[-1] and path[0] in "'\"":
        path = path[1:-1]
    bare = without_quotes(path)
    for meant in (path.strip(), bare, unquote(bare.removeprefix("file://"))):
        if meant != path and os.path.lexists(meant):
            return meant
    return os.path.expanduser(path) if path.startswith("~") else path


def with_values(model: _Model, values: Mapping[str, Any]) -> _Model:
    """Return settings of a model with other values of some keys, such as "model.hog.cells"."""
    for key, value in values.items():
        name, _, inner = key.removeprefix("model.").partition(".")
        changes: dict[str, Any] = {inner or name: value}
        if inner:
            changes = {name: replace(getattr(model, name), **changes)}
        model = replace(model, **changes)
    return model
