"""The settings that a run has kept, also those of runs that are older than some keys."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from src.config.checks import from_plain
from src.config.credentials import credentials_problem, without_credentials
from src.config.schema import RunSettings

__all__ = ["stored_settings"]

# Keys that came later, with the value that says what runs did before there was a choice.
_LATER: dict[str, Any] = {
    "cv": {"folds": None, "repeats": 1, "fold": None},
    "data.fit": "squeeze",
    "data.train_on_val": False,
    "data.check_content": False,
    "data.value_range": [0.0, 65535.0],
    "trainer.stop_after": None,
    "tracking.figures": True,
    "augment.crop_probability": 0.0,
    "augment.crop_scale": [0.35, 1.0],
    "augment.crop_ratio": [0.75, 1.333],
    "augment.policy": "none",
    "augment.policy_operations": 2,
    "augment.policy_magnitude": 9.0,
}
# The same, within settings that some runs have and others do not.
_LATER_WHERE: dict[tuple[str, str], dict[str, Any]] = {
    ("model", "calibration_folds"): {
        "whitening": 0.0,
        "normalise": "none",
        "auto": {"seconds": 60.0},
        "ridge": {"strength": 1.0},
        "nearest_mean": {"shrinkage": 0.1},
    },
    ("model", "backbone_lr_scale"): {
        "layer_decay": 1.0,
        "head_start": "random",
        "freeze_norm": False,
        "frozen_stages": 0,
        "stored_views": 0,
    },
    ("model", "features"): {
        "scattering": {"octaves": 3, "orientations": 4, "grid": 7, "side": 64},
    },
}


def stored_settings(plain: Mapping[str, Any]) -> RunSettings:
    """The settings of a run's config.yaml or of its checkpoint's passport.

    Raises:
        ConfigError: as `from_plain`.
    """
    completed = _without_credentials(dict(plain))
    for key, value in _LATER.items():
        *groups, name = key.split(".")
        place = completed
        for group in groups:
            place = place.get(group, {})
        place.setdefault(name, copy.deepcopy(value))
    for (group, sibling), values in _LATER_WHERE.items():
        if sibling in completed.get(group, {}):
            completed[group] = copy.deepcopy(values) | completed[group]
    return from_plain(RunSettings, completed)


def _without_credentials(plain: Any) -> Any:
    """A copy of nested settings; older runs kept the passwords that addresses held."""
    if isinstance(plain, dict):
        return {key: _without_credentials(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_without_credentials(value) for value in plain]
    if isinstance(plain, str) and credentials_problem(plain):
        return without_credentials(plain)
    return plain
