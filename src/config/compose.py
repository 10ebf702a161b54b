"""From command-line words to validated settings, and plain words for what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from src.config.checks import ConfigError, from_plain, nearest

__all__ = ["CONF", "compose_plain", "compose_settings", "expand", "groups", "value_of"]

T = TypeVar("T")

CONF = Path(__file__).resolve().parents[2] / "conf"

# Values taken literally, because Hydra's grammar would read spaces, brackets, `=`, commas, `~` or
# `${` in a path as something else.
LITERAL_KEYS = frozenset(
    {
        "data.root",
        "data.cache_dir",
        "model.pretrained",
        "output_dir",
        "resume",
        "tracking.uri",
        "tracking.experiment",
        "run",
        "images",
        "out",
    }
)
_WORDS = {"null": None, "true": True, "false": False}


def groups(conf: Path = CONF) -> dict[str, list[str]]:
    """The config groups and their options, in alphabetical order."""
    return {
        folder.name: sorted(option.stem for option in folder.glob("*.yaml"))
        for folder in sorted(conf.iterdir())
        if folder.is_dir()
    }


def expand(words: Sequence[str]) -> Iterator[list[str]]:
    """The jobs of a multirun: every combination of `key=a,b,c`, `key=range(...)`, `key=glob(...)`.

    Raises:
        ConfigError: a word that is no override.
    """
    choices: list[list[str]] = []
    for word in words:
        key, _, value = word.partition("=")
        if key in LITERAL_KEYS:
            # A list of plain words is no path; everything else is one, commas and all.
            values = value.split(",")
            listed = all(v in _WORDS or v in ("hub", "package") for v in values)
            choices.append([f"{key}={v}" for v in values] if listed else [word])
            continue
        override = _parse(word)
        if not override.is_sweep_override():
            choices.append([word])
        elif override.is_discrete_sweep():
            choices.append(
                [f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()]
            )
        else:
            raise ConfigError(f"{word!r}: only lists, range() and glob() can be run one by one.")
    for job in product(*choices):
        yield list(job)


def compose_plain(words: Sequence[str], config_name: str, conf: Path = CONF) -> dict[str, Any]:
    """Compose conf/<config_name>.yaml with command-line overrides into plain containers.

    Raises:
        ConfigError: a word that is no override, an unknown key or option.
    """
    literal = {}
    overrides = []
    for word in words:
        key, equals, _ = word.partition("=")
        if equals and key in LITERAL_KEYS:
            literal[key] = value_of(word)
        else:
            if _parse(word).is_sweep_override():
                raise ConfigError(f"{word!r} names several values: add -m to run them one by one.")
            overrides.append(word)
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            composed = compose(config_name, overrides)
        plain = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, overrides, config_name, conf) from None
    assert isinstance(plain, dict)
    named = {str(key): value for key, value in plain.items()}
    for key, value in literal.items():
        _put(named, key, value)
    return named


def compose_settings(
    cls: type[T], words: Sequence[str], config_name: str = "config", conf: Path = CONF
) -> T:
    """Compose and validate; nothing heavier than Hydra is imported.

    Raises:
        ConfigError: anything wrong with the words, in one plain sentence.
    """
    return from_plain(cls, compose_plain(words, config_name, conf))


def value_of(word: str) -> Any:
    """The value of one `key=value`: literally for paths, else as Hydra reads it.

    Raises:
        ConfigError: a word that is no override.
    """
    key, _, value = word.partition("=")
    return _WORDS.get(value, value) if key in LITERAL_KEYS else _parse(word).value()


def _parse(word: str) -> Override:
    key, equals, _ = word.partition("=")
    if key.lstrip("+~").startswith("hydra."):
        raise ConfigError(f"{word!r}: Hydra's own settings play no part here; see output_dir.")
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        if not equals:
            raise ConfigError(
                f"{word!r} is not understood: settings are given as KEY=VALUE."
            ) from None
        raise ConfigError(
            f"{word!r} cannot be read: put a value with special characters into quotes, "
            f"""{key}='"VALUE"'."""
        ) from None


def _put(plain: dict[str, Any], key: str, value: Any) -> None:
    *folders, name = key.split(".")
    node: Any = plain
    for folder in folders:
        node = node.get(folder) if isinstance(node, dict) else None
    if not isinstance(node, dict) or name not in node:
        raise ConfigError(f"{key}: there is no such key{nearest(key, _keys(plain))}.")
    node[name] = value


def _explained(
    error: Exception, overrides: Iterable[str], config_name: str, conf: Path
) -> ConfigError:
    """The first override that does not fit, in plain words; else Hydra's own first line."""
    options = groups(conf)
    values: list[tuple[str, Override]] = []
    chosen: list[str] = []
    for word in overrides:
        override = _parse(word)
        key = override.key_or_group
        if key not in options:
            values.append((word, override))
        elif override.value() not in options[key]:
            given = override.value()
            return ConfigError(
                f"{key} is {given!r}: it must be one of {', '.join(options[key])}"
                f"{nearest(str(given), options[key])}."
            )
        else:
            chosen.append(word)
    try:
        with initialize_config_dir(str(conf), version_base="1.3"):
            known = _keys(OmegaConf.to_container(compose(config_name, chosen), resolve=False))
    except (HydraException, OmegaConfBaseException):
        known = []
    for _, override in values:
        key = override.key_or_group
        if known and key not in known and not override.is_add():
            hint = nearest(key, [*known, *options]) or _same_leaf(key, known)
            return ConfigError(f"{key}: there is no such key{hint}.")
    return ConfigError(str(error).strip().splitlines()[0])


def _same_leaf(key: str, known: Sequence[str]) -> str:
    """`lr` -> ' (did you mean optimizer.lr?)'"""
    leaf = key.rpartition(".")[2]
    same = [k for k in known if k.rpartition(".")[2] == leaf]
    return (
        f" (did you mean {same[0]}?)"
        if same
        else nearest(leaf, [k.rpartition(".")[2] for k in known])
    )


def _keys(plain: Any, prefix: str = "") -> list[str]:
    keys: list[str] = []
    if isinstance(plain, Mapping):
        for name, value in plain.items():
            path = f"{prefix}{name}"
            keys += [path, *_keys(value, f"{path}{os.extsep}")]
    return keys
