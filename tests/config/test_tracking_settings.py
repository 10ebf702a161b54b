from __future__ import annotations

import pytest

from src.config.checks import ConfigError, from_plain
from src.config.tracking import TrackingSettings

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
