"""The settings of a run from its command line: composed, or read from the run to resume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from src.config.checks import ConfigError
from src.config.compose import compose_settings, value_of
from src.config.schema import RunSettings
from src.config.stored import stored_settings
from src.runs.folder import RunFolder

__all__ = ["effective_overrides", "read_run_settings"]

_CHANGEABLE = ("output_dir", "tracking.uri", "trainer.max_epochs", "trainer.max_time")


def read_run_settings(overrides: Sequence[str], config_name: str = "config") -> RunSettings:
    """Return the settings of a new run, or with `resume=RUN` those of RUN itself.

    Raises:
        ConfigError: an override is wrong or would change nothing with the model, or beside `resume`
            it would change RUN.
    """
    given = {override.partition("=")[0]: value_of(override) for override in overrides}
    if given.get("resume") is None:
        settings = compose_settings(RunSettings, overrides, config_name)
        _refuse_idle(given, settings)
        return settings
    for key, value in given.items():
        if isinstance(value, str) and not value.strip():
            raise ConfigError(f"{key} is empty: give it a value or leave it out.")
        if key not in ("resume", *_CHANGEABLE):
            raise ConfigError(
                f"{key}: a resumed run keeps its settings; beside resume only "
                f"{', '.join(_CHANGEABLE)} may be given."
            )
    try:
        folder = RunFolder.find(str(given["resume"]), Path(str(given.get("output_dir", "outputs"))))
        plain = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except (ValueError, OSError, yaml.YAMLError) as error:
        raise ConfigError(f"resume: {error}.") from error
    plain["resume"] = str(folder.path)
    plain["output_dir"] = str(folder.output_dir)
    if "tracking.uri" in given:
        plain["tracking"]["uri"] = given["tracking.uri"]
    for key in ("max_epochs", "max_time"):
        if f"trainer.{key}" in given:
            plain["trainer"][key] = given[f"trainer.{key}"]
    settings = stored_settings(plain)
    _refuse_idle(given, settings)
    lengths = [key for key in given if key.startswith("trainer.")]
    if lengths and settings.cv.is_whole:
        raise ConfigError(
            f"{lengths[0]}: the folds that have ended keep theirs; begin a new cross-validation."
        )
    return settings


def effective_overrides(overrides: Sequence[str], beside: Sequence[str] = ()) -> list[str]:
    """Return those of `overrides` that change something in a run with all of these.

    Families of a sweep share overrides, and not all of them concern each family.

    Args:
        overrides: to choose from.
        beside: further overrides of the run.

    Raises:
        ConfigError: an override is wrong.
    """
    settings = compose_settings(RunSettings, [*beside, *overrides])
    return [override for override in overrides if not settings.is_idle(override.partition("=")[0])]


def _refuse_idle(keys: Iterable[str], settings: RunSettings) -> None:
    for key in keys:
        if settings.is_idle(key):
            raise ConfigError(
                f"{key}: it changes nothing with these settings of model={settings.model.name}; "
                "leave it out."
            )
