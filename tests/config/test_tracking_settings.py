from __future__ import annotations

import pytest
import yaml

from src.config.checks import ConfigError, from_plain
from src.config.compose import CONF
from src.config.tracking import ReplaySettings, TrackingSettings, UISettings

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
    plain = yaml.safe_load((CONF / "tracking" / "mlflow.yaml").read_text()) | changes
    return from_plain(TrackingSettings, plain, "tracking")


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


@pytest.mark.parametrize("option", ["mlflow", "none"])
def test_the_options_are_valid(option: str) -> None:
    plain = yaml.safe_load((CONF / "tracking" / f"{option}.yaml").read_text())
    assert from_plain(TrackingSettings, plain).enabled == (option == "mlflow")


def test_the_commands_settings_are_valid() -> None:
    from_plain(ReplaySettings, yaml.safe_load((CONF / "replay.yaml").read_text()))
    from_plain(UISettings, yaml.safe_load((CONF / "ui.yaml").read_text()))
