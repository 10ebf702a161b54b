"""Compose command-line overrides into validated settings, with plain sentences for mistakes."""

from __future__ import annotations

import copy
import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..machine.package import PRESETS
from ..machine.text import nearest
from .checks import ConfigError, Settings, WithoutEffect, completed, from_plain, is_literal
from .models import NetworkSettings
from .nested import keys_of, leaves, put
from .other_names import hint_for_key, with_libraries
from .override_faults import (
    LISTED,
    divided_path,
    no_key,
    no_option,
    not_understood,
    several_values,
)
from .overrides import (
    CONSTANTS,
    by_key,
    key_of_override,
    override_of,
    parse_override,
    split_override,
    value_of,
)
from .plugins import plugin_folders
from .schema import RunSettings

__all__ = [
    "CONF",
    "SWEEPS",
    "chosen_options",
    "compose_plain",
    "compose_settings",
    "data_overrides",
    "effective_overrides",
    "expand",
    "flattened",
    "groups",
    "read_run_settings",
    "refuse_idle",
    "with_pictures",
]

S = TypeVar("S", bound=Settings)

CONF = PRESETS / "conf"
SWEEPS = PRESETS / "sweeps"

# Hydra's groups for what it does around a program, of which composing alone has no use: reading
# them takes a third of the time. (Of a group that is removed, `~hydra/help`, Hydra reads the file.)
_LEFT_OUT = [
    f"hydra/{group}=[]"
    for group in (
        *("env", "output", "launcher", "sweeper"),
        *("help", "hydra_help", "hydra_logging", "job_logging"),
    )
]


def groups(*folders: Path) -> dict[str, list[str]]:
    """Return the config groups in these folders and their options, in alphabetical order.

    Without folders they are those of conf/ and of the plugins.
    """
    found: dict[str, list[str]] = {}
    trees = folders or (CONF, *plugin_folders("conf"))
    for folder in sorted((path for tree in trees for path in tree.iterdir()), key=lambda f: f.name):
        if options := [option.stem for option in folder.glob("*.yaml")]:
            found[folder.name] = sorted([*found.get(folder.name, []), *options])
    return found


def data_overrides(data: str | Path) -> list[str]:
    """Return the overrides for a data set by its name, or for a place with pictures.

    Raises:
        ConfigError: there is no place of that name, and a data set has nearly that name.
    """
    names = groups()["data"]
    if isinstance(data, str) and data in names and not Path(data).exists():
        return [f"data={data}"]
    root = data if "://" in str(data) else Path(os.path.expanduser(data)).absolute()
    # Other places may be missing here: the workers of a cluster may be the only ones to have them.
    is_missing = str(data) == Path(data).name and not os.path.exists(root)
    if is_missing and (near := nearest(data, [name for name in names if name != "folder"])):
        raise ConfigError(
            f"data is {str(data)!r}: there is no such file, folder or data set{near}."
        )
    return ["data=folder", f"data.root={root}"]


def with_pictures(overrides: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the overrides of a job with `data=folder data.root=PLACE` for `data=PLACE`.

    Args:
        overrides: as they were typed.
        names: of the data sets, which come before places of the same name.

    Raises:
        ConfigError: `data.root` names a place as well.
    """
    found: list[str] = []
    for argument in overrides:
        key, place = split_override(argument)
        if key != "data" or place in names or not _is_place(place):
            found.append(argument)
            continue
        if root := by_key(overrides).get("data.root"):
            raise ConfigError(
                f"{argument!r} and {root!r} both say where the pictures are: give one."
            )
        found += ["data=folder", f"data.root={place.removeprefix('folder:')}"]
    return found


def _is_place(text: str) -> bool:
    """Tell whether the value of `data` is a path or address, or a mistyped name of a data set."""
    found = os.path.exists(str(value_of(f"data.root={text}")))
    return found or (("/" in text or os.sep in text) and "," not in text)  # no list of them


def expand(overrides: Sequence[str]) -> Iterator[list[str]]:
    """Yield the jobs of a multirun: all combinations of `key=a,b`, `key=range()`, `key=glob()`.

    Raises:
        ConfigError: an argument is no override.
    """
    choices: list[list[str]] = []
    for argument in overrides:
        key, value = split_override(argument)
        if is_literal(key):
            # A list of names of options is no path; everything else is one, with its commas.
            values = value.split(",")
            plain = {*CONSTANTS, "hub", "package", *groups().get(key, ())}
            listed = all(v in plain for v in values)
            choices.append([f"{key}={v}" for v in values] if listed else [argument])
            continue
        override = parse_override(argument)
        if not override.is_sweep_override():
            choices.append([argument])
        elif override.is_discrete_sweep():
            choices.append([f"{key}={v}" for v in _each_value(override)])
        else:
            raise ConfigError(
                f"{argument!r}: only lists, range() and glob() can be run one by one."
            )
    for job in product(*choices):
        yield list(job)


def flattened(overrides: Iterable[str]) -> list[str]:
    """Return overrides of a single setting each: `budget={minutes:3,epochs:9}` becomes two.

    Raises:
        ConfigError: an argument with braces is no override.
    """
    found = []
    for argument in overrides:
        key, text = split_override(argument)
        value = parse_override(argument).value() if text.startswith("{") else None
        if isinstance(value, dict) and not is_literal(key):
            found += [override_of(one, own) for one, own in leaves(value, f"{key}.").items()]
        else:
            found.append(argument)
    return found


def _each_value(override: Override) -> Iterable[str]:
    """Return the values of `key=a,b` and `key=range()`, and the options of `group=glob()`.

    Raises:
        ConfigError: no option of a group is called so.
    """
    pattern, group = override.value(), override.key_or_group
    if not isinstance(pattern, Glob):
        return override.sweep_string_iterator()
    if not (names := pattern.filter(groups().get(group, []))):
        raise ConfigError(
            f"{override.input_line!r}: there is no group {group} with such options, of which "
            "glob() runs each."
        )
    return names


def compose_plain(
    overrides: Sequence[str],
    config_name: str,
    folders: tuple[Path, ...] = (CONF,),
    cls: type = RunSettings,
) -> dict[str, Any]:
    """Compose <config_name>.yaml with command-line overrides into plain containers.

    Args:
        overrides: as on the command line.
        config_name: of a file in the first folder.
        folders: hold the config groups, beside those of the plugins.
        cls: the settings that bring the defaults.

    Raises:
        ConfigError: an argument is no override, an unknown key or option.
    """
    literal: dict[str, Any] = {}
    parsed: dict[str, Override] = {}
    folders = _with_plugins(folders)
    options = _chosen_from(cls, folders)
    overrides = [argument.lstrip("+") for argument in overrides]  # as `split_override` has it
    if cls is RunSettings:
        overrides = with_libraries(overrides, options["model"])
    for at, argument in enumerate(overrides):
        key, equals, _ = argument.partition("=")
        if equals and is_literal(key) and key not in options:
            literal[key] = value_of(argument)
            continue
        if not equals and not argument.startswith("~"):
            if whole := divided_path(overrides, at):
                raise ConfigError(
                    f"{argument!r} is not understood: if it belongs to the path before it, put "
                    f"both in quotes, {shlex.quote(whole)}."
                )
            raise not_understood(argument, leaves(_completed(config_name, folders, (), cls)))
        parsed[argument] = override = parse_override(argument)
        _refuse_override(argument, override, options, cls)
    chosen = [argument for argument, o in parsed.items() if _chooses(o, options)]
    values = {argument: o for argument, o in parsed.items() if argument not in chosen}
    try:
        plain = _completed(config_name, folders, tuple(chosen), cls)
        # Hydra would compose anew for every other value, a quarter of a second: a sweep, which
        # checks hundreds of configurations before it starts, would wait for a minute. So values of
        # known keys are set here. Where one says more (`${...}`, a dict), or a file refers to other
        # keys, Hydra gets all of them, since what they refer to may be among them.
        composed = _composed(config_name, folders, tuple(chosen))[0]
        if _refers(composed) or not all(_is_plain(override, plain) for override in values.values()):
            # `++`, for Hydra does not know the keys that conf/ leaves to their defaults.
            known = keys_of(plain)
            stated = [
                f"{'++' * (override.get_key_element() in known)}{override.input_line}"
                for override in values.values()
            ]
            plain = _completed(config_name, folders, (*chosen, *stated), cls)
        else:
            for override in values.values():
                put(plain, override.key_or_group, override.value())
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, parsed, config_name, folders, cls) from None
    for key, value in literal.items():
        put(plain, key, value)
    return plain


def _refuse_override(
    argument: str, override: Override, options: Mapping[str, Sequence[str]], cls: type
) -> None:
    """Raise ConfigError for what Hydra's grammar has, and a command line of one run has not."""
    if override.is_delete():
        key = override.key_or_group
        raise ConfigError(f"{argument!r}: a setting cannot be removed: set {key}=VALUE.")
    if override.is_sweep_override():
        raise several_values(argument, cls)
    key, text = split_override(argument)
    if key in options and not isinstance(override.value(), str | dict):
        raise ConfigError(f"{key} is {text}: {no_option(key, text, options[key])}.")


def _chosen_from(cls: type, folders: tuple[Path, ...]) -> dict[str, list[str]]:
    """Return the config groups of a settings class; `data` of a comparison is a name instead."""
    hints = get_type_hints(cls)
    return {
        name: options
        for name, options in groups(*folders).items()
        if is_dataclass(hints.get(name)) or name not in hints
    }


def _chooses(override: Override, options: Mapping[str, Any]) -> bool:
    """Return whether an override names an option of a group, and no values of its keys."""
    return override.key_or_group in options and not isinstance(override.value(), dict)


def _is_plain(override: Override, plain: Mapping[str, Any]) -> bool:
    """Return whether an override does no more than replace one value by another."""
    if override.package is not None or "$" in str(override.input_line):
        return False
    known = leaves(plain) if isinstance(override.value(), dict) else keys_of(plain)
    return override.key_or_group in known


def _completed(
    config_name: str, folders: tuple[Path, ...], overrides: tuple[str, ...], cls: type
) -> dict[str, Any]:
    """Return what Hydra composes, with the defaults of the settings, which it may refer to."""
    plain = completed(cls, copy.deepcopy(_composed(config_name, folders, overrides)[0]))
    if not _refers(plain):
        return plain
    resolved = OmegaConf.to_container(OmegaConf.create(plain), resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def _refers(plain: Mapping[str, Any]) -> bool:
    """Return whether values of composed settings refer to others."""
    return "${" in str(plain)


def _with_plugins(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    return (*folders, *plugin_folders("conf")) if CONF in folders else folders


# Hydra takes a quarter of a second, and trials differ in values, not in the groups they choose.
@lru_cache(maxsize=256)
def _composed(
    config_name: str, folders: tuple[Path, ...], overrides: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings with their references, and the chosen option of each group."""
    # Within single quotes of Hydra's grammar.
    quoted = [re.sub(r"([\\'])", r"\\\1", str(folder)) for folder in folders[1:]]
    further = ",".join(f"'file://{folder}'" for folder in quoted)
    path = [f"hydra.searchpath=[{further}]"] if further else []
    with initialize_config_dir(str(folders[0]), version_base="1.3"):
        try:
            composed = compose(
                config_name, [*_LEFT_OUT, *path, *overrides], return_hydra_config=True
            )
        except (YAMLError, UnicodeDecodeError) as error:  # in a file of a plugin's conf/
            reason = " ".join(str(error).split())
            raise ConfigError(f"a file of a config group cannot be read: {reason}.") from None
    choices = {str(group): str(option) for group, option in composed.hydra.runtime.choices.items()}
    with open_dict(composed):
        del composed["hydra"]
    plain = OmegaConf.to_container(composed)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}, choices


def compose_settings(cls: type[S], overrides: Sequence[str]) -> S:
    """Compose and validate the settings of a command; nothing heavier than Hydra is imported.

    Args:
        cls: the settings, which know the name of their file in conf/.
        overrides: as of `compose_plain`.

    Raises:
        ConfigError: anything wrong with the overrides, in one plain sentence.
    """
    return from_plain(cls, compose_plain(overrides, cls.config_name, cls=cls))


def read_run_settings(overrides: Sequence[str], *, sampled: bool = False) -> RunSettings:
    """Return the settings of a new run.

    Args:
        overrides: as of `compose_plain`.
        sampled: whether the values were drawn from a space, some of which may turn others off.

    Raises:
        ConfigError: an override is wrong, or would change nothing with the model or the others.
    """
    settings = compose_settings(RunSettings, overrides)
    given = [*map(key_of_override, overrides)]
    refuse_idle(given, settings)
    if not sampled:
        _refuse_without_effect(given, settings)
    if "debug=overfit" in overrides and settings.is_idle("trainer.max_epochs"):
        raise ConfigError(
            f"debug=overfit: it is about training by epochs, and model={settings.model.name} is "
            "fitted in one go: set debug=batch."
        )
    return settings


def refuse_idle(keys: Iterable[str], settings: RunSettings) -> None:
    """Raise ConfigError for a key that changes nothing with the model."""
    for key in keys:
        if settings.is_idle(key):
            raise ConfigError(
                f"{key}: it changes nothing with these settings of model={settings.model.name}; "
                "leave it out."
            )


def _refuse_without_effect(keys: Iterable[str], settings: RunSettings) -> None:
    """Raise `WithoutEffect` for a key that changes nothing with the values of others."""
    given = set(keys)
    augment = {key.removeprefix("augment.") for key in given if key.startswith("augment.")}
    for name, needed in settings.augment.without_effect(augment):
        raise WithoutEffect(f"augment.{name}", " or ".join(f"augment.{one}" for one in needed))
    model, scheduler = settings.model, settings.scheduler
    norms = isinstance(model, NetworkSettings) and model.freeze_norm and not model.pretrained
    unchosen = settings.data.train_on_val and settings.data.chosen_for is not None
    idle = {
        **dict.fromkeys(
            ("data.answer", "data.threshold"),
            unchosen and "data.train_on_val=false, for a validation part to choose answers by",
        ),
        "data.band_names": settings.data.bands is None and "data.bands, the names of those to read",
        "model.freeze_norm": norms and "model.pretrained, whose statistics are to be kept",
        "scheduler.start_divisor": not getattr(scheduler, "warmup_fraction", 1)
        and "scheduler.warmup_fraction, the way up from there",
    }
    for key, lacking in idle.items():
        if key in given and lacking:
            raise WithoutEffect(key, lacking)


def effective_overrides(overrides: Sequence[str], beside: Sequence[str]) -> list[str]:
    """Return those of `overrides` that change something in a run that has those `beside` as well.

    Families of a sweep share overrides, and not all of them concern each family.

    Raises:
        ConfigError: an override is wrong.
    """
    settings = compose_settings(RunSettings, [*beside, *overrides])
    return [override for override in overrides if not settings.is_idle(key_of_override(override))]


def chosen_options(
    overrides: Sequence[str], config_name: str, folders: tuple[Path, ...] = (CONF,)
) -> dict[str, str]:
    """Return the option of each config group with these overrides; their values are ignored."""
    folders = _with_plugins(folders)
    known = groups(*folders)
    chosen = tuple(argument for argument in overrides if key_of_override(argument) in known)
    _, choices = _composed(config_name, folders, chosen)
    return {group: option for group, option in choices.items() if group in known}


def _explained(
    error: Exception,
    overrides: Mapping[str, Override],
    config_name: str,
    folders: tuple[Path, ...],
    cls: type,
) -> ConfigError:
    """Return an error on the overrides that do not fit, or else with Hydra's first line."""
    if group := re.match(r"Could not override '([^']+)'\. No match", str(error)):
        return ConfigError(_no_group(group[1], config_name, folders, cls))
    options = _chosen_from(cls, folders)
    chosen = {argument: o for argument, o in overrides.items() if _chooses(o, options)}
    for override in chosen.values():
        key, given = override.key_or_group, override.value()
        if given not in options[key]:
            return ConfigError(f"{key} is {given!r}: {no_option(key, str(given), options[key])}.")
    try:
        known = keys_of(_completed(config_name, folders, tuple(chosen), cls))
    except (HydraException, OmegaConfBaseException):
        known = []
    keys = [o.key_or_group for argument, o in overrides.items() if argument not in chosen]
    if unknown := [key for key in dict.fromkeys(keys) if known and key not in known]:
        return ConfigError(" ".join(str(no_key(key, [*known, *options])) for key in unknown))
    reason = str(error).strip().splitlines()[0]
    if composed := [repr(one) for one in overrides if "$" in one or "{" in one]:
        return ConfigError(f"{', '.join(composed)} cannot be read: {reason}.")
    return ConfigError(reason)


def _no_group(group: str, config_name: str, folders: tuple[Path, ...], cls: type) -> str:
    """Return why this command has no options of a group of other commands."""
    keys = keys_of(_completed(config_name, folders, (), cls))
    if own := [key for key in keys if key.startswith(f"{group}.")]:
        return f"{group}: this command has no options of it to choose, it has {', '.join(own)}."
    hint = hint_for_key(group, keys)
    return f"{group}: this command has no such setting{f'; {hint}' if hint else LISTED}."
