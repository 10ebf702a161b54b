"""What a shell may complete on a command line of `bakeoff`."""

from __future__ import annotations

import shlex
from contextlib import suppress

from ..machine.package import ENTRIES
from .checks import to_plain
from .compose import compose_settings, groups, leaves
from .other_names import library_networks, stored_networks
from .schema import RunSettings
from .sweep import read_sweep_settings

__all__ = ["completions"]

_RUNS = ("train", "sweep")


def completions(line: str) -> list[str]:
    """Return the words that may stand in place of the last one of a command line.

    Args:
        line: up to the cursor, such as "bakeoff train model=c".
    """
    try:
        words = shlex.split(line)
    except ValueError:  # a quote is open
        return []
    if not words or line.endswith(" "):
        words.append("")
    if len(words) < 3:
        names = [*ENTRIES, "completion"]
        return [name for name in names if name.startswith(words[-1])]
    entry, last = words[1], words[-1]
    options = groups() if entry in _RUNS else {}
    key, equals, value = last.partition("=")
    if equals:
        known = list(options.get(key, ()))
        if (entry, key) == ("train", "model") and value:
            known += stored_networks()  # whose weights are here, before all others
            if not any(one.startswith(value) for one in known):
                known = library_networks()
        return [f"{key}={one}" for one in known if one.startswith(value)]
    keys = [f"{name}=" for name in options] + [f"{name}=" for name in _keys(entry, words[2:-1])]
    return sorted({one for one in keys if one.startswith(last)})


def _keys(entry: str, overrides: list[str]) -> list[str]:
    """Return the keys of an entry's settings, as far as the words before allow to know them."""
    with suppress(Exception):  # what is wrong with the command line is said when it is run
        if entry == "train":
            return list(leaves(to_plain(compose_settings(RunSettings, overrides))))
        if entry == "sweep":
            return list(leaves(to_plain(read_sweep_settings(overrides, "default"))))
    return []
