"""Completion of the command lines of `bakeoff` in a shell."""

from __future__ import annotations

import shlex
from contextlib import suppress
from typing import Any

from ..machine.package import ENTRIES
from .checks import ConfigError, Settings, options_of, to_plain
from .command_line import CONFIG_NAME_FLAGS, parse, take_config_name
from .compose import compose_plain, groups
from .finished import (
    CompareSettings,
    EvaluateSettings,
    ExportSettings,
    PredictSettings,
    PushSettings,
    ScalingSettings,
    SelectSettings,
    VerifySettings,
)
from .models import WeightsSettings
from .nested import leaves
from .other_names import library_networks, stored_networks
from .overrides import without_keys
from .schema import RunSettings
from .sweep import DashboardSettings, SweepSettings, read_sweep_settings, sweep_files
from .tracking import ReplaySettings, UISettings

__all__ = ["completions"]

_RUNS = ("train", "sweep")
# What the settings of the entries are.
_SETTINGS: dict[str, type[Settings]] = {
    "train": RunSettings,
    "sweep": SweepSettings,
    "compare": CompareSettings,
    "select": SelectSettings,
    "predict": PredictSettings,
    "evaluate": EvaluateSettings,
    "scaling": ScalingSettings,
    "export": ExportSettings,
    "push": PushSettings,
    "verify": VerifySettings,
    "weights": WeightsSettings,
    "ui": UISettings,
    "replay": ReplaySettings,
    "dashboard": DashboardSettings,
}


def completions(line: str) -> list[str]:
    """Return the completions of the last argument of a command line.

    Args:
        line: up to the cursor, such as "bakeoff train model=c".
    """
    try:
        arguments = shlex.split(line)
    except ValueError:  # a quote is open
        return []
    if not arguments or line.endswith(" "):
        arguments.append("")
    if len(arguments) < 3:
        names = [*ENTRIES, "completion"]
        return [name for name in names if name.startswith(arguments[-1])]
    entry, last = arguments[1], arguments[-1]
    options = groups() if entry in _RUNS else {}
    key, equals, value = last.partition("=")
    if equals:
        known = list(options.get(key, ()))
        if (entry, key) == ("train", "model") and value:
            known += stored_networks()  # whose weights are here, before all others
            if not any(one.startswith(value) for one in known):
                known = library_networks()
        if not known and (cls := _SETTINGS.get(entry)):
            known = list(options_of(cls, key, _settings(entry, arguments[2:-1])))
        return [f"{key}={one}" for one in known if one.startswith(value)]
    if entry == "sweep" and arguments[-2] in CONFIG_NAME_FLAGS:
        return [name for name in sweep_files() if name.startswith(last)]
    settings = leaves(_settings(entry, arguments[2:-1]))
    keys = [f"{name}=" for name in (*options, *settings) if not name.endswith("_target_")]
    return sorted({one for one in keys if one.startswith(last)})


def _settings(entry: str, arguments: list[str]) -> dict[str, Any]:
    """Return the nested settings of an entry, as the arguments before have them.

    Invalid arguments are ignored: the command reports them when it is run.
    """
    cls = _SETTINGS.get(entry)
    if cls is None:
        return {}
    sweep_file = ""
    if entry == "sweep":
        arguments, sweep_file = take_config_name(arguments, "default")
    try:
        overrides = parse(arguments).overrides
    except ConfigError:  # a flag that there is not
        overrides = [argument for argument in arguments if not argument.startswith("-")]
    # Code of plugins is not run while somebody types.
    overrides = without_keys(overrides, ["plugins"])

    def composed(some: list[str]) -> dict[str, Any]:
        if entry == "sweep":
            plain: dict[str, Any] = to_plain(read_sweep_settings(some, sweep_file))
            return plain
        return compose_plain(some, cls.config_name, cls=cls)

    with suppress(Exception):
        return composed(overrides)
    composing = list[str]()
    for argument in overrides:
        with suppress(Exception):
            composed([*composing, argument])
            composing.append(argument)
    with suppress(Exception):
        return composed(composing)
    return {}
