"""Nested settings in plain containers, by dotted keys such as "trainer.max_epochs"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .override_faults import no_key

__all__ = ["keys_of", "leaves", "put"]


def leaves(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return values by key: `{"trainer": {"max_epochs": 3}}` as `{"trainer.max_epochs": 3}`."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        key = f"{prefix}{name}"
        found |= leaves(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found


def keys_of(plain: Any, prefix: str = "") -> list[str]:
    """Return the keys of all values, those that are nested included: `trainer` as well."""
    keys: list[str] = []
    for name, value in plain.items() if isinstance(plain, Mapping) else ():
        keys += [f"{prefix}{name}", *keys_of(value, f"{prefix}{name}.")]
    return keys


def put(plain: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a key.

    Raises:
        ConfigError: there is no such key.
    """
    *folders, name = key.split(".")
    node: Any = plain
    for folder in folders:
        node = node.get(folder) if isinstance(node, dict) else None
    if not isinstance(node, dict) or name not in node:
        raise no_key(key, keys_of(plain))
    node[name] = value
