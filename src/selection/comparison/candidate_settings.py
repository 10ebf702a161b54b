"""The settings of a finished run, and those of them that define its candidate."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import yaml

from ...config import schema  # noqa: F401 - registers the kinds of models
from ...config.checks import ConfigError, from_plain
from ...config.models import ModelSettings
from ...config.nested import leaves
from ...machine.yaml_text import read_yaml

__all__ = ["configuration_of", "read_settings"]

# Matches before each key of the first level of a settings file.
_GROUP = re.compile(r"^(?=\w+:)", re.MULTILINE)
# Settings of a run that do not define a candidate: its place, its execution, and the seeds.
_NOT_THE_CANDIDATE = (
    *("output_dir", "resume", "seed", "evaluate_test", "find_lr", "tracking.", "runtime."),
    *("trainer.progress", "trainer.accelerator", "data.cache_dir", "data.cache_limit_gb"),
    *("data.num_workers", "data.check_content", "data.download", "data.name", "data.root"),
)
_NO_SETTINGS = "its config.yaml holds no settings"
_MODELS: dict[str, _ModelKeys | None] = {}  # by the values that decide which keys are idle


def read_settings(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings in a run's config.yaml, nested, and those that define its candidate.

    The latter are by dotted key: repeats share them, and they have an effect.

    Raises:
        ValueError: it holds no settings.
        yaml.YAMLError: it is no YAML.
    """
    groups = _groups(text)
    plain = {key: value for group in groups for key, value in group.plain.items()}
    known = {key: value for group in groups for key, value in group.known.items()}
    model = next((group.model for group in groups if group.model is not None), None)
    if model is None:
        return plain, known
    for key in known.keys() - model.idle.keys():
        model.idle[key] = model.settings.is_idle(key)
    return plain, {key: value for key, value in known.items() if not model.idle[key]}


def configuration_of(known: Mapping[str, Any]) -> str:
    """Return a hash that is equal for runs that differ in nothing but the seed."""
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


class _ModelKeys(NamedTuple):
    """Settings of a model, and which keys are known to be idle with it."""

    settings: ModelSettings
    idle: dict[str, bool]


class _SettingsGroup(NamedTuple):
    """A settings group: nested, the candidate's keys in it, and which model it describes."""

    plain: dict[str, Any]
    known: dict[str, Any]
    model: _ModelKeys | None


def _groups(text: str) -> list[_SettingsGroup]:
    """Read a config.yaml group by group, and a group that another run has as well only once.

    Read whole, each takes libyaml 1.8 ms: 1,000 runs would take 5.9 s instead of 4.7 to the last
    picture of their comparison, for which `benchmarks/compare.py` allows 5.
    """
    try:
        groups = [_group(part) for part in _GROUP.split(text) if part]
    except yaml.YAMLError:  # a group that refers to another one
        groups = [_group(text)]
    if not groups:
        raise ValueError(_NO_SETTINGS)
    return groups


@lru_cache(maxsize=1 << 14)
def _group(text: str) -> _SettingsGroup:
    plain = read_yaml(text)
    if not isinstance(plain, dict):
        raise ValueError(_NO_SETTINGS)
    known = {k: v for k, v in leaves(plain).items() if not k.startswith(_NOT_THE_CANDIDATE)}
    return _SettingsGroup(plain, known, _model(plain.get("model")))


def _model(model: object) -> _ModelKeys | None:
    """Return settings with the same idle keys as these; None where they cannot be read."""
    if not isinstance(model, dict):
        return None
    # Only whether a number is 0 matters, and building settings takes a millisecond.
    kind = json.dumps(
        {k: bool(v) if isinstance(v, int | float) else v for k, v in leaves(model).items()},
        sort_keys=True,
        default=str,
    )
    if kind not in _MODELS:
        try:
            _MODELS[kind] = _ModelKeys(from_plain(ModelSettings, model, "model"), {})
        except ConfigError:  # of another version, or of a package that is not installed
            _MODELS[kind] = None
    return _MODELS[kind]
