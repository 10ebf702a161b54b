"""The settings of a run that a person asks for: a new one's, or those of one that goes on.

Apart from `resume`, so that wrong words are refused before anything else is imported.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..config.compose import read_run_settings
from ..config.schema import RunSettings

__all__ = ["read_settings"]


def read_settings(overrides: Sequence[str]) -> RunSettings:
    """Return the settings of a new run, or with `resume=RUN` those of RUN.

    Raises:
        ConfigError: they are wrong, change nothing, or RUN cannot go on.
    """
    given = dict(word.partition("=")[::2] for word in overrides)
    if given.get("resume", "null") == "null":
        return read_run_settings(overrides)
    from .resume import read_resumed_settings

    return read_resumed_settings(overrides)
