"""Settings of a run: durations, addresses, and what an earlier run has stored."""

from __future__ import annotations

import pytest

from src.config.checks import ConfigError, from_plain, to_plain
from src.config.compose import compose_settings, groups
from src.config.models import models_for
from src.config.schema import RunSettings, stored_settings
from src.config.tracking import TrackingSettings
from src.config.training import seconds_of

_URIS = [
    "sqlite:///runs.db",
    "sqlite:////data/runs.db",
    "postgresql+psycopg2://me@host/db",
    "http://127.0.0.1:5000",
    "https://tracking.example.org/mlflow",
    "databricks",
]
_WRONG = [
    "file:./mlruns",
    "mlruns",
    "/data/mlflow.db",
    "sqlite://runs.db",
    "http://",
    "ftp://h",
    "",
]


def tracking(**changes: object) -> TrackingSettings:
    return from_plain(TrackingSettings, changes, "tracking")


@pytest.mark.parametrize("uri", [None, *_URIS])
def test_addresses_of_databases_and_servers_pass(uri: str | None) -> None:
    assert tracking(uri=uri).uri == uri


@pytest.mark.parametrize("uri", _WRONG)
def test_other_addresses_are_refused_with_an_example(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.uri is .*: (it must|give it a value) "):
        tracking(uri=uri)


@pytest.mark.parametrize("name", ["", "  ", "x" * 501])
def test_an_experiment_has_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"tracking\.experiment"):
        tracking(experiment=name)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (90, 90),
        ("90s", 90),
        ("10m", 600),
        ("1.5h", 5400),
        ("1d", 86400),
        ("00:10:00", 600),
        ("01:00:00:01", 86401),
    ],
)
def test_durations(duration: float | str, seconds: float) -> None:
    assert seconds_of(duration) == seconds


@pytest.mark.parametrize("duration", ["", "s", "10", "10x", "1:2", 0, -1, "0s", "m10"])
def test_what_is_no_duration_is_refused(duration: float | str) -> None:
    with pytest.raises(ValueError, match="it must be"):
        seconds_of(duration)


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("optimizer", "lr", None),
        ("trainer", "tta", "sideways"),
        ("data", "colour", 3),
        ("data", None, 3),  # a YAML file whose key was flipped away
    ],
)
def test_settings_of_another_version_are_refused_with_the_key(
    group: str, key: str | None, value: object
) -> None:
    plain = to_plain(compose_settings(RunSettings, []))
    plain[group].pop(key, None)
    if value is not None:
        plain[group][key] = value
    with pytest.raises(ConfigError, match=rf"another version.*{group}\.{key}.*train it again"):
        stored_settings(plain)


@pytest.mark.parametrize("target", ["multi", "dense"])
def test_the_models_that_are_named_for_a_target_are_options_that_it_takes(target: str) -> None:
    """All of them, and no others."""
    overrides = ["data=digits", f"data.target={target}", "augment=none"]
    named = models_for(target)
    for option in groups()["model"]:
        further = ["model.runs=[a,b]"] if option == "ensemble" else []
        if option in named:
            assert compose_settings(RunSettings, [*overrides, f"model={option}", *further]).model
            continue
        with pytest.raises(ConfigError, match=rf"use one of model={', '.join(named)}\."):
            compose_settings(RunSettings, [*overrides, f"model={option}", *further])
    assert ("unet" in named) == (target == "dense") and "fcn" in named
