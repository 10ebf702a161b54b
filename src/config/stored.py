"""The settings that a run has kept in its config.yaml and in its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from src.config.checks import ConfigError, from_plain
from src.config.schema import RunSettings

__all__ = ["stored_settings"]


def stored_settings(plain: Mapping[str, Any]) -> RunSettings:
    """Return the settings of a run's config.yaml or of the metadata in its checkpoint.

    Raises:
        ConfigError: they are not what this version of the project writes.
    """
    try:
        return from_plain(RunSettings, plain)
    except ConfigError as error:
        raise ConfigError(
            f"the settings of this run are damaged or of another version, so it cannot be used "
            f"any more ({str(error).rstrip('.')}): train it again."
        ) from error
