"""The families of a sweep: search spaces of sweeps/spaces/, checked against a run's settings.

The name of a network of timm or torchvision is a family too, of fine-tuning its published weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..config.checks import ConfigError, WithoutEffect
from ..config.compose import (
    SWEEPS,
    chosen_options,
    compose_plain,
    effective_overrides,
    groups,
    read_run_settings,
)
from ..config.nested import leaves
from ..config.other_names import library_of, nearest_network
from ..config.overrides import by_key, changed, override_of, without_keys
from ..config.plugins import plugin_folders, plugin_overrides
from ..machine.text import nearest
from ..machine.yaml_text import read_yaml
from ..search.space import Family, Kind, Parameter, Value, parse_space
from ..targets import kind_of

__all__ = [
    "CLASSIFIER",
    "SIDE",
    "chooses_network",
    "default_values",
    "is_finetuned",
    "is_from_scratch",
    "is_of",
    "kinds_of",
    "load_families",
    "name_of_kind",
    "trial_overrides",
    "trial_variants",
]

CLASSIFIER = "model.classifier"  # key of models that classify features
_SPACES = SWEEPS / "spaces"
# Search space of a network with published weights.
_TUNED = _SPACES / "shared" / "finetune.yaml"
# The override of fine-tuning, and those that state the network.
_FINETUNING = "recipe=finetune"
_NETWORK_KEYS = "model=", "model.name=", "model.pretrained="
_FILE_KEYS = {"words", "use", "space"}
_UNFIT = "the space does not fit the config"
_ENDS = ":", " is "  # of a key, at the beginning of a sentence about it
# Keys that decide whether a classifier takes seconds or minutes on the same features.
_COST_KEYS = (CLASSIFIER, "model.selection")
# Key that decides, with the keys that depend on it, the number of hand-crafted features. Times are
# not estimated for each value of a range of floats, or of more whole numbers than `_MAX_STEPS`, nor
# by a further key if there would be more variants than `_MAX_VARIANTS`.
_FEATURES, _MAX_STEPS, _MAX_VARIANTS = "model.features", 8, 100
# The side of the pictures, which some families search.
SIDE = "data.image_size"
_SIZE_KEYS = (
    *("model.widths", "model.blocks", "model.channels", "model.hidden", "model.hidden_size"),
    *("model.layers", "model.patch_size", "model.width", "model.depth"),
)
# Families for which the time at other sizes of the pictures is not estimated.
_DESCRIBED = frozenset(("model=embedding", "model=handcrafted"))


def load_families(
    names: Sequence[str], base: Sequence[str], search: Sequence[str] | None = None
) -> list[Family]:
    """Return the families of a sweep, each with its search space, checked against the config.

    Args:
        names: of files in sweeps/spaces/, or in the same folder of a plugin, or of networks of timm
            and torchvision.
        base: overrides that all trials share; what they set is not searched.
        search: patterns of the keys to search; None for all.

    Raises:
        ConfigError: no such family, or a space that does not fit the config.
    """
    known = sorted(_space_files())
    families, refused = list[Family](), dict[str, tuple[str, ValueError]]()
    for name in names:
        if name not in known and library_of(name) is None:
            near = nearest_network(name, known)
            raise ConfigError(
                f"families: there is no {name}: there are {', '.join(known)}, and the networks of "
                f"timm and torchvision{near}."
            )
        try:
            families.append(_checked(*_load(name, base, search), base))
        except ValueError as error:
            text = str(error).rstrip(".")
            stated = text.removeprefix(f"{_UNFIT}: ")
            if stated.startswith(tuple(f"{key}{end}" for key in by_key(base) for end in _ENDS)):
                refused[name] = stated, error  # of the command; others may have the key
                continue
            place = f"sweeps/spaces/{name}.yaml" if name in known else f"families: {name}"
            raise ConfigError(f"{place}: {text}.") from error
    for name, (stated, cause) in refused.items():
        others = ",".join(family.name for family in families)
        fitting = f"; it suits families=[{others}]" if others else ""
        raise ConfigError(f"{stated} (family {name}{fitting}).") from cause
    if search is not None and not any(family.parameters for family in families):
        raise ConfigError(f"search is {list(search)}: no key of these families matches.")
    return families


def trial_overrides(family: Family, base: Sequence[str], values: Mapping[str, Value]) -> list[str]:
    """Return the overrides of a trial: the family's, those of the base that it uses, its values."""
    shared = _shared(family.overrides, tuple(base))
    # The override of a key that is searched is only that of the default configuration.
    kept = without_keys(changed(family.overrides, shared), values)
    return [*kept, *(override_of(key, value) for key, value in values.items())]


@cache  # composing takes a while, and is the same for every trial of a family
def _shared(overrides: tuple[str, ...], base: tuple[str, ...]) -> list[str]:
    return effective_overrides(base, overrides)


def is_of(family: Family, *models: str) -> bool:
    """Return whether a family is one of these models, which are named as in conf/model/."""
    return any(f"model={name}" in family.overrides for name in models)


def is_finetuned(family: Family) -> bool:
    """Return whether a family trains a published network from its weights."""
    return _FINETUNING in family.overrides


def is_from_scratch(family: Family) -> bool:
    """Return whether a family trains a network that starts from no weights."""
    return _starts_from_scratch(family.overrides)


@cache  # composing takes a while
def _starts_from_scratch(overrides: tuple[str, ...]) -> bool:
    known = _known(overrides)
    return "model.pretrained" in known and not known["model.pretrained"]


def chooses_network(family: Family, base: Sequence[str]) -> bool:
    """Return whether a family fine-tunes any published network, since none is stated."""
    stated = any(one.startswith(_NETWORK_KEYS) for one in (*family.overrides, *base))
    return is_finetuned(family) and not stated


def kinds_of(family: Family) -> list[Kind]:
    """Return a family's kinds of trials, each of which takes about the same time: by classifier."""
    costly = [parameter for parameter in family.parameters if parameter.key in _COST_KEYS]
    return [Kind(family.name, values) for values in _combinations(family, costly)]


def trial_variants(family: Family) -> list[dict[str, Value]]:
    """Return the variants of a family: the sets of features, or sizes of networks, of its trials.

    Each is given by values of keys. There is a single one, without values, if all trials are alike.
    """
    found: list[dict[str, Value]] = [{}]
    deciding: list[Parameter] = []
    for parameter in family.parameters:
        crafted = parameter.key == _FEATURES or _FEATURES in dict(parameter.when)
        few = parameter.choices or (parameter.whole and _steps(parameter) <= _MAX_STEPS)
        sized = parameter.key == SIDE and _DESCRIBED.isdisjoint(family.overrides)
        if few and (crafted or sized or parameter.key in _SIZE_KEYS):
            more = _combinations(family, [*deciding, parameter])
            if len(more) <= _MAX_VARIANTS:
                deciding, found = [*deciding, parameter], more
    return found


def _combinations(family: Family, parameters: Sequence[Parameter]) -> list[dict[str, Value]]:
    found: list[dict[str, Value]] = [{}]
    for parameter in parameters:
        found = [
            values | chosen
            for values in found
            for chosen in (
                [{parameter.key: value} for value in _values(parameter)]
                if parameter.applies({**family.constants, **values})
                else [{}]
            )
        ]
    return found


def _values(parameter: Parameter) -> Sequence[Value]:
    step = int(parameter.step or 1)
    return parameter.choices or range(int(parameter.low), int(parameter.high) + 1, step)


def _steps(parameter: Parameter) -> float:
    return (parameter.high - parameter.low) / (parameter.step or 1)


def name_of_kind(values: Mapping[str, Value]) -> str:
    """Return the overrides that define a kind or variant, "" if there are none."""
    return " ".join(override_of(key, value) for key, value in values.items())


def default_values(family: Family, base: Sequence[str]) -> dict[str, Value]:
    """Return the values of the searched keys in a family's default configuration.

    Raises:
        ValueError: one of the values lies outside of its range.
    """
    known = _known([*family.overrides, *base])
    values = {p.key: known[p.key] for p in family.parameters if p.key in known}
    family.stored_values(values)
    return values


def _space_files() -> dict[str, Path]:
    folders = (*plugin_folders("sweeps", "spaces"), _SPACES)  # built-in names cannot be replaced
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}


def _load(
    name: str, base: Sequence[str], search: Sequence[str] | None
) -> tuple[Family, frozenset[str]]:
    """Return a family, and the keys of its search space that come from shared parts."""
    path = _space_files().get(name, _TUNED)
    file = _read(path)
    if path == _TUNED:
        starts = [f"model={library_of(name)}", f"model.name={name}", "model.pretrained=true"]
        file = {"words": [*starts, _FINETUNING], "space": file}
    if unknown := sorted(set(file) - _FILE_KEYS):
        raise ValueError(f"{unknown[0]}: there is no such key: there are words, use and space")
    if not isinstance(file.get("space") or {}, Mapping):
        raise ValueError("space must hold keys with what each may be")
    space: dict[str, Any] = {}
    for part in file.get("use") or []:
        shared = path.parent / "shared" / f"{part}.yaml"
        space |= _read(shared if shared.is_file() else _SPACES / "shared" / f"{part}.yaml")
    own = file.get("space") or {}
    shared_keys = frozenset(space.keys() - own.keys())
    space |= own
    overrides = tuple(file.get("words") or ())
    given = by_key(base)
    known = _known([*overrides, *base])
    parameters: list[Parameter] = []
    constants: dict[str, Any] = {}
    for parameter in parse_space(space):  # in the order of their conditions
        key, searched = parameter.key, {one.key for one in parameters}
        read = {other for other, _ in parameter.when} - searched
        constants |= {other: known[other] for other in read if other in known}
        if not all(
            constants.get(other, allowed[0]) in allowed for other, allowed in parameter.when
        ):
            continue
        # A key may exist only with the options that its conditions name.
        chosen = [override_of(other, allowed[0]) for other, allowed in parameter.when]
        if key not in known and not (chosen and key in _known([*overrides, *base, *chosen])):
            raise ValueError(f"{key}: there is no such key{nearest(key, known)}")
        if key not in given and (search is None or any(fnmatchcase(key, one) for one in search)):
            parameters += _fitting(parameter, [*overrides, *base])
    return Family(name, overrides, tuple(parameters), constants), shared_keys


def _fitting(parameter: Parameter, shared: Sequence[str]) -> list[Parameter]:
    """Return the parameter without losses that lack a key which all trials set."""
    if parameter.key != "loss":
        return [parameter]
    fitting = []
    for choice in parameter.choices:
        try:
            read_run_settings([*shared, override_of("loss", choice)])
        except ConfigError:
            if choice in groups()["loss"]:
                continue
        fitting.append(choice)
    return [replace(parameter, choices=tuple(fitting))] if fitting else []


def _known(overrides: Sequence[str]) -> dict[str, Any]:
    """Return every key of a run with these overrides, config groups included, with its value."""
    return leaves(compose_plain(overrides, "config")) | chosen_options(overrides, "config")


def _checked(family: Family, shared: frozenset[str], base: Sequence[str]) -> Family:
    """Return the family without shared keys that have no effect with what all its trials set."""
    while True:
        try:
            _check(family, base)
        except WithoutEffect as idle:
            searched = {one.key for one in family.parameters}
            if idle.key not in searched & shared:
                raise ValueError(f"{_UNFIT}: {idle}") from None
            kept = tuple(one for one in family.parameters if one.key != idle.key)
            family = replace(family, parameters=kept)
        else:
            return family


def _check(family: Family, base: Sequence[str]) -> None:
    """Check that all choices, the bounds of all ranges and the default values are valid."""
    try:
        own = default_values(family, base)
    except ValueError as error:
        raise ValueError(
            f"{error}, and it is what the family's own configuration has: add it to the space, or "
            "name another value in words, which is tried first"
        ) from None
    settings = read_run_settings(trial_overrides(family, base, {}))
    data = settings.data
    of_sizes = any(parameter.key == SIDE for parameter in family.parameters)
    if of_sizes and kind_of(data.target).pixels and data.fit != "windows":
        raise ValueError(f"{SIDE}: figures of pixels in several sizes do not compare: fix it")
    if plugin_overrides():
        from ..runs.build import check_plugins  # imports torch, which takes seconds

        check_plugins(settings)
    options = groups()
    for parameter in family.parameters:
        for choice in parameter.choices if parameter.key in options else ():
            if choice not in options[parameter.key]:
                hint = nearest(str(choice), options[parameter.key])
                raise ValueError(f"{parameter.key}: there is no {choice}{hint}")
    for values in _corners(family, own):
        try:
            read_run_settings(trial_overrides(family, base, values))
        except WithoutEffect:
            raise
        except ConfigError as error:
            raise ValueError(f"{_UNFIT}: {error}") from None


def _corners(family: Family, own: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
    """Yield a few configurations in which each parameter has each of its extremes at least once.

    Options of config groups change only where conditions need it, since composing is slow.
    """
    chosen_groups = groups().keys()
    corners: list[dict[str, Value]] = []
    if any(parameter.key.startswith("augment.") for parameter in family.parameters):
        # With some of its options, single settings of augmentation have no effect.
        for parameter in family.parameters:
            for option in parameter.choices if parameter.key == "augment" else ():
                corners.append(_with_conditions(family, parameter) | {"augment": option})
    for parameter in family.parameters:
        for value in () if parameter.key in chosen_groups else parameter.extremes():
            wanted = _with_conditions(family, parameter) | {parameter.key: value}
            fitting = (c for c in corners if all(c.get(key, v) == v for key, v in wanted.items()))
            if (corner := next(fitting, None)) is None:
                corners.append(wanted)
            else:
                corner |= wanted
    for corner in corners:
        values: dict[str, Value] = dict(family.constants)
        for parameter in family.parameters:
            if parameter.applies(values):
                usual = own.get(parameter.key, parameter.extremes()[0])
                values[parameter.key] = corner.get(parameter.key, usual)
        yield {key: value for key, value in values.items() if key not in family.constants}


def _with_conditions(family: Family, parameter: Parameter) -> dict[str, Value]:
    """Return values of other parameters with which this one applies."""
    values: dict[str, Value] = {}
    for key, allowed in parameter.when:
        for other in family.parameters:
            if other.key == key:
                values |= _with_conditions(family, other) | {key: allowed[0]}
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"use names {path.stem}, but there is no {path.name} in shared/") from None
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError("it must hold keys with values")
    return content
