"""MLflow's own SQLite file: made whole or not at all, in the place that was meant."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path

from filelock import FileLock

from src.tracking.addresses import sqlite_uri

__all__ = ["artifacts_of", "make_database", "remove_decoy", "run_folders"]

_SCHEMA_TIMEOUT_SECONDS = 120.0
_RUN_FOLDERS = """
SELECT tags.value FROM runs
JOIN experiments ON experiments.experiment_id = runs.experiment_id
JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'bakeoff.run_dir'
WHERE experiments.name = ?
AND experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active'
ORDER BY runs.start_time, tags.value
"""


def artifacts_of(database: Path) -> str:
    """Where the artifacts of its runs lie, as a URI: beside it."""
    return (database.parent / "mlartifacts").as_uri()


def make_database(database: Path) -> None:
    """Give it MLflow's tables unless it has them; processes that start at once make it once.

    Raises:
        OSError: it cannot be written.
    """
    if database.is_file() and database.stat().st_size > 0:
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(database.with_name(f"{database.name}.lock"), timeout=_SCHEMA_TIMEOUT_SECONDS)
    with lock:
        if database.is_file() and database.stat().st_size > 0:
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        unfinished = database.with_name(f".{uuid.uuid4().hex}.db")
        try:
            SqlAlchemyStore(sqlite_uri(unfinished), artifacts_of(database)).engine.dispose()
            unfinished.replace(database)
        finally:
            unfinished.unlink(missing_ok=True)


def run_folders(database: Path, experiment: str) -> list[Path]:
    """The folders of an experiment's runs, the oldest first; none where MLflow must be asked.

    MLflow's own search reads every parameter of every run, and its import takes as long again: for
    a thousand runs some seconds, all of this some milliseconds.
    """
    address = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return [Path(noted) for (noted,) in connection.execute(_RUN_FOLDERS, (experiment,))]
    except sqlite3.Error:  # another version's tables, or not a database
        return []


def remove_decoy(uri: str, database: Path) -> None:
    """MLflow makes the folder that a SQLite URI names if its escapes are not read as such."""
    literal = Path(uri.partition(":///")[2].partition("?")[0]).parent
    if literal != database.parent:
        with suppress(OSError):  # not there, or somebody's own folder with files in it
            literal.rmdir()
