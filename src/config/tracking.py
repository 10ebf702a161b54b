"""Settings of the tracking group, and of the two commands that go with it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .checks import ConfigError, Settings, positive_int, setting
from .credentials import credentials_problem
from .overrides import key_of_override

__all__ = [
    "RUN_NAME",
    "ReplaySettings",
    "TrackingPlace",
    "TrackingSettings",
    "TrackingSwitch",
    "UISettings",
    "environment_overrides",
    "environment_tags",
    "experiment_problem",
    "uri_problem",
]

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https", "databricks")
# MLflow's own variables for the name and the tags of a run.
RUN_NAME, _RUN_TAGS = "MLFLOW_RUN_NAME", "MLFLOW_RUN_CONTEXT"


def uri_problem(uri: str) -> str | None:
    """Return the fault of a tracking URI, or None."""
    if uri == "databricks":
        return None
    scheme, separator, place = uri.partition("://")
    if not separator or scheme.partition("+")[0] not in (*_DATABASES, *_SERVERS):
        return (
            "it must be the address of a database or server, like sqlite:///FILE.db, "
            "postgresql://HOST/NAME or http://HOST:PORT"
        )
    if scheme.startswith("sqlite") and not place.startswith("/"):
        return "it must have three slashes before the file, or four before an absolute path"
    if not place.strip("/"):
        return f"it must be an address: {scheme}://..."
    return None


def experiment_problem(name: str) -> str | None:
    """Return the fault of a name of an MLflow experiment, or None."""
    return None if name.strip() and len(name) <= 500 else "it must be a name of 1 to 500 characters"


def environment_overrides(
    keys: Sequence[str], settings: Any, overrides: Sequence[str]
) -> list[str]:
    """Return overrides with the values of MLflow's environment variables, where nothing is set.

    A run that is resumed goes on where it was.

    Args:
        keys: `tracking.uri` (MLFLOW_TRACKING_URI), `tracking.experiment` (MLFLOW_EXPERIMENT_NAME).
        settings: with the group `tracking`, without the variables.
        overrides: of the command line.

    Raises:
        ConfigError: a variable holds a password or token, or no value of its setting.
    """
    given = {*map(key_of_override, overrides)}
    found = []
    for variable, key, problem in (
        ("MLFLOW_TRACKING_URI", "tracking.uri", uri_problem),
        ("MLFLOW_EXPERIMENT_NAME", "tracking.experiment", experiment_problem),
        (RUN_NAME, "", lambda name: None),
        (_RUN_TAGS, "", _tags_problem),
    ):
        value = os.environ.get(variable, "").strip()
        if not value or (key and key not in keys) or not given.isdisjoint(("resume", key)):
            continue
        if reason := credentials_problem(value, key) or problem(value):
            raise ConfigError(f"{variable}: {reason}.")
        if key and getattr(settings.tracking, key.partition(".")[2]) is None:
            found.append(f"{key}={value}")
    return found


def environment_tags() -> dict[str, str]:
    """Return the tags that MLflow's variable for them gives to every run that begins.

    Raises:
        ValueError: it holds no tags.
    """
    text = os.environ.get(_RUN_TAGS, "").strip()
    return _tags_in(text) if text else {}


def _tags_in(text: str) -> dict[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict) or any(isinstance(one, dict | list) for one in found.values()):
        raise ValueError("no tags")
    return {key: one if isinstance(one, str) else json.dumps(one) for key, one in found.items()}


def _tags_problem(text: str) -> str | None:
    try:
        _tags_in(text)
    except (ValueError, RecursionError):
        return 'it must be tags as JSON, like {"team": "birds"}'
    return None


@dataclass(frozen=True)
class TrackingPlace(Settings):
    """The tracking database."""

    uri: str | None = setting(
        "tracking database or server; null for mlflow.db in output_dir",
        None,
        check=uri_problem,
        literal=True,
    )


@dataclass(frozen=True)
class TrackingSwitch(TrackingPlace):
    """The tracking database, for what is made of runs that it holds."""

    enabled: bool = setting(
        "mirror it in MLflow where the runs are; its files are there without", True
    )


@dataclass(frozen=True)
class TrackingSettings(TrackingPlace):
    """The place where a run is mirrored."""

    enabled: bool = setting("mirror the run in MLflow; its own folder is complete without", True)
    experiment: str | None = setting(
        "the MLflow experiment that holds the run; null for bakeoff- and the name of the data set",
        None,
        check=experiment_problem,
        literal=True,
    )
    log_model: bool = setting(
        "log the trained network: its checkpoint, and a model that MLflow can serve", True
    )
    figures: bool = setting("draw the run's pictures: curves, confusion, mistakes, suspects", True)
    system_metrics_seconds: float | None = setting(
        "seconds between two looks at processor, memory and GPUs; null for none", 10, at_least=1
    )


@dataclass(frozen=True)
class ReplaySettings(Settings):
    """`python -m src.tracking.replay`."""

    config_name = "replay"

    tracking: TrackingPlace = setting("where the run is mirrored")
    output_dir: str = setting("folder under which the runs are looked for", "outputs", literal=True)


@dataclass(frozen=True)
class UISettings(ReplaySettings):
    """`python -m src.tracking.ui`."""

    config_name = "ui"

    port: int = positive_int("port on 127.0.0.1 to answer on", 5000, at_most=65535)
