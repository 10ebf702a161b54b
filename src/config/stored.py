"""The settings that a run has kept, also those of runs that are older than some keys."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from src.config.checks import from_plain
from src.config.schema import RunSettings

__all__ = ["stored_settings"]

# Keys that came later, with the value that says what runs did before there was a choice.
_LATER: dict[str, Any] = {
    "cv": {"folds": None, "repeats": 1, "fold": None},
    "data.train_on_val": False,
    "trainer.stop_after": None,
    "tracking.figures": True,
}


def stored_settings(plain: Mapping[str, Any]) -> RunSettings:
    """The settings of a run's config.yaml or of its checkpoint's passport.

    Raises:
        ConfigError: as `from_plain`.
    """
    completed = copy.deepcopy(dict(plain))
    for key, value in _LATER.items():
        *groups, name = key.split(".")
        place = completed
        for group in groups:
            place = place.get(group, {})
        place.setdefault(name, copy.deepcopy(value))
    return from_plain(RunSettings, completed)
