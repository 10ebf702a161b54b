"""What is read of MLflow's own tables, against what MLflow says."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from src.tracking.addresses import sqlite_uri
from src.tracking.database import run_folders
from src.tracking.mlflow_store import Store
from tests.tracking.diary import client


def test_an_experiments_runs_are_those_that_mlflow_finds_the_oldest_first(tmp_path: Path) -> None:
    database = tmp_path / "a b?.db"
    store = Store(sqlite_uri(database))
    made = {}
    for time, (experiment, name) in enumerate(
        [("mine", "first"), ("other", "x"), ("mine", "deleted"), ("mine", "second"), ("gone", "y")]
    ):
        tags = {"bakeoff.run_dir": f"/runs/{name}", "other": "/no"}
        made[name] = store.create_run(
            experiment=experiment, name=name, start_time_ms=time + 1, tags=tags
        )
    store.create_run(experiment="mine", name="not ours", start_time_ms=9, tags={})
    client(store).delete_run(made["deleted"])
    gone = client(store).get_experiment_by_name("gone")
    client(store).delete_experiment(gone.experiment_id)
    assert run_folders(database, "mine") == [Path("/runs/first"), Path("/runs/second")]
    said = [run.run_dir for run in store.search("mine", "") if run.run_dir is not None]
    assert said[::-1] == run_folders(database, "mine")
    assert run_folders(database, "gone") == run_folders(database, "never") == []


def test_of_a_file_with_other_tables_nothing_is_read_and_nothing_made(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE runs (id TEXT)")
    assert run_folders(other, "mine") == []
    assert run_folders(tmp_path / "none.db", "mine") == []
    assert not (tmp_path / "none.db").exists()
