"""MLflow's database: the one module that uses parts of MLflow outside of its public interface.

Several processes that migrate a new SQLite file at once break it, MLflow repeats a query that fails
for minutes, and it keeps connections to a file that was deleted or replaced. Tables are read by SQL
for the bar of `compare` on 1,000 runs (benchmarks/compare.py): MLflow takes seconds to import, and
its search reads every parameter of every run.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import uuid
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..storage.locks import ProcessLock, if_free
from .addresses import sqlite_uri
from .filters import as_sql

__all__ = [
    "JOURNALS",
    "artifacts_of",
    "drop_connections",
    "find_artifacts",
    "limit_retries",
    "make_database",
    "remove_decoy",
    "remove_unfinished_database",
    "run_folders",
]

# Ends of the names of the files beside a SQLite file that hold changes to it.
JOURNALS = ("-journal", "-wal", "-shm")
_SCHEMA_TIMEOUT_SECONDS, _LOCK_TIMEOUT_SECONDS = 120.0, 30.0
_ARTIFACTS = "mlartifacts"
# Tables and columns of the places of artifacts.
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_UNFINISHED = re.compile(rf"\.[0-9a-f]{{32}}\.db({'|'.join(JOURNALS)})?")
_RUN_FOLDERS = """
SELECT tags.value FROM runs
JOIN experiments ON experiments.experiment_id = runs.experiment_id
JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'bakeoff.run_dir'
WHERE experiments.lifecycle_stage = 'active' AND runs.lifecycle_stage = 'active'
AND coalesce(experiments.name = ?, TRUE) AND ({condition})
ORDER BY runs.start_time, runs.run_uuid DESC
"""


def artifacts_of(database: Path) -> str:
    """Return the URI of the artifacts of a database's runs, beside its file."""
    return (database.parent / _ARTIFACTS).as_uri()


def find_artifacts(database: Path) -> None:
    """Set the places of artifacts to the folder beside the database, where they lay elsewhere.

    MLflow keeps absolute ones: of a database that was moved or copied with its artifacts, runs
    would go on writing into the folder that it lay in. Nothing is changed where that is this folder
    under another name, or where the places are not those of `make_database`.

    Raises:
        sqlite3.Error: the database cannot be written.
    """
    first = "SELECT artifact_location FROM experiments WHERE experiment_id = 0"
    with closing(sqlite3.connect(database, timeout=_LOCK_TIMEOUT_SECONDS)) as connection:
        (place,) = connection.execute(first).fetchone() or ("",)
        before, now = place.removesuffix("/0"), artifacts_of(database)
        if not place.endswith(f"/{_ARTIFACTS}/0") or before == now or _is_same(before, now):
            return
        with connection:
            for table, column in _PLACES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (now, len(before) + 1, before, len(before) + 1, f"{before}/"),
                )


def _is_same(place: str, other: str) -> bool:
    """Return whether two file URIs name one folder that is there."""
    try:
        return os.path.samefile(*(url2pathname(urlsplit(one).path) for one in (place, other)))
    except OSError:
        return False


def make_database(database: Path) -> None:
    """Create a SQLite file with MLflow's tables unless it has them, under another name first.

    Raises:
        OSError: it cannot be written, or a journal of another one lies where its own would.
    """
    if database.is_file() and database.stat().st_size > 0:
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with ProcessLock(_lock_of(database), timeout=_SCHEMA_TIMEOUT_SECONDS):
        if database.is_file() and database.stat().st_size > 0:
            return
        for end in JOURNALS:  # SQLite would mix it into the new one
            if (left := database.with_name(database.name + end)).exists():
                raise FileExistsError(f"{left} is left of another database: move it away")
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        unfinished = database.with_name(f".{uuid.uuid4().hex}.db")
        try:
            # SQLite would let nobody else write it, whatever the umask: a group may share a folder.
            os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            SqlAlchemyStore(sqlite_uri(unfinished), artifacts_of(database)).engine.dispose()
            unfinished.replace(database)
        finally:
            unfinished.unlink(missing_ok=True)


def remove_unfinished_database(database: Path) -> list[Path]:
    """Remove what processes left that died while they made a database; return which files.

    Raises:
        OSError: one cannot be removed.
    """
    left = [path for path in database.parent.glob(".*.db*") if _UNFINISHED.fullmatch(path.name)]
    if not left:
        return []
    with if_free(_lock_of(database)) as free:
        removed = sorted(left) if free else []
        for path in removed:
            path.unlink(missing_ok=True)
    return removed


def _lock_of(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


def run_folders(database: Path, experiment: str | None, condition: str = "") -> list[Path]:
    """Return the folders of an experiment's runs, or of all, that satisfy a filter; oldest first.

    The condition is as of `Store.search`, which takes seconds. Empty as well for one that MLflow
    alone can read, and where the tables are of another version: call `Store.search` then.
    """
    wanted = as_sql(condition)
    if wanted is None:
        return []
    address = f"{database.absolute().as_uri()}?mode=ro"
    statement = _RUN_FOLDERS.format(condition=wanted.sql)
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.execute("PRAGMA case_sensitive_like = TRUE")
            found = connection.execute(statement, (experiment, *wanted.values))
            return [Path(noted) for (noted,) in found]
    except sqlite3.Error:  # another version's tables, or not a database
        return []


def limit_retries() -> None:
    """Have MLflow try a query of a database that does not answer once, not eleven times.

    It also prints the whole query and where it was made, though it raises the error as well.
    """
    import mlflow.store.db.utils as databases

    databases.MAX_RETRY_COUNT = 1
    logging.getLogger(databases.__name__).setLevel(logging.CRITICAL)


def drop_connections(uri: str) -> None:
    """Close MLflow's idle connections to a database, whose file may be another one by now.

    To one that was deleted, as with the whole folder in a notebook, SQLite writes nothing any more:
    "attempt to write a readonly database".
    """
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Tracking

    for engine in (Tracking._engine_map.get(uri), Registry._engine_map.get(uri)):
        if engine is not None:
            engine.dispose()


def remove_decoy(uri: str, database: Path) -> None:
    """Remove the folder that MLflow creates where it does not decode a SQLite URI's escapes."""
    literal = Path(uri.partition(":///")[2].partition("?")[0]).parent
    if literal != database.parent:
        with suppress(OSError):  # missing, or a folder with files in it
            literal.rmdir()
