"""Making databases: in odd places, in broken ones, and by several at once."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from src.tracking.addresses import default_uri
from src.tracking.mlflow_store import ServerAway, Store
from tests.tracking.diary import client


def test_a_broken_database_is_said_to_be_away_at_once(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(ServerAway, match="not a database"):
        Store(default_uri(tmp_path))


def test_a_place_that_cannot_be_written_is_said_to_be_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ServerAway):
        Store(default_uri(tmp_path / "file" / "below"))


def test_a_password_is_not_in_the_error() -> None:
    store = Store("http://me:secret@127.0.0.1:9")
    with pytest.raises(ServerAway, match="no connection") as caught:
        store.find("a" * 32)
    assert "secret" not in str(caught.value)


@pytest.mark.slow  # MLflow itself waits 20 s for the lock
def test_a_locked_database_is_away_and_not_broken(store: Store, output_dir: Path) -> None:
    writer = sqlite3.connect(output_dir / "mlflow.db", isolation_level=None)
    writer.execute("begin exclusive")
    with pytest.raises(ServerAway, match="locked"):
        store.create_run(experiment="e", name="n", start_time_ms=1, tags={})
    writer.execute("rollback")
    assert store.create_run(experiment="e", name="n", start_time_ms=1, tags={})


@pytest.mark.slow
def test_a_fresh_database_in_an_odd_place(tmp_path: Path) -> None:
    folder = tmp_path / "a b=#?c%20,[图片]~'\""
    store = Store(default_uri(folder))
    run = store.create_run(experiment="größe", name="图" * 400, start_time_ms=1, tags={})
    (tmp_path / "f.txt").write_text("x")
    store.log_artifact(run, tmp_path / "f.txt", "sub")
    assert (folder / "mlartifacts" / run / "artifacts" / "sub" / "f.txt").read_text() == "x"
    assert {path.name for path in folder.iterdir()} == {
        "mlflow.db",
        "mlflow.db.lock",
        "mlartifacts",
    }
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "f.txt"}
    default = client(store).get_experiment_by_name("Default")
    assert default.artifact_location.startswith((folder / "mlartifacts").as_uri())
