"""The settings of a run that a person asks for, of one that goes on, and of an earlier one.

Apart from `resume`, so that wrong overrides are refused before anything else is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config.compose import read_run_settings
from ..config.schema import RunSettings
from ..data.sources.roots import root_beside

if TYPE_CHECKING:  # it loads NumPy
    from .folder import RunFolder

__all__ = ["read_settings", "seen_from_here"]


def read_settings(overrides: Sequence[str]) -> RunSettings:
    """Return the settings of a new run, or with `resume=RUN` those of RUN.

    Raises:
        ConfigError: they are wrong, change nothing, or RUN cannot go on.
    """
    given = dict(one.partition("=")[::2] for one in overrides)
    if given.get("resume", "null") == "null":
        return read_run_settings(overrides)
    from .resume import read_resumed_settings

    return read_resumed_settings(overrides)


def seen_from_here(settings: RunSettings, folder: RunFolder) -> RunSettings:
    """Return the settings of an earlier run with its pictures as they are found from here.

    A relative `data.root` that is not below the folder of this command is looked for beside the
    folder of outputs, where it usually was.
    """
    root = root_beside(settings.data.root, folder.output_dir.parent)
    return replace(settings, data=replace(settings.data, root=root))
