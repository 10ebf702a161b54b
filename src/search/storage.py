"""Databases that hold studies, and plain words for what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage

from src.search.lease import StudyBusy

__all__ = ["open_database", "plainly"]

# How long SQLite waits for another process that writes.
_PATIENCE_SECONDS = 30


def open_database(url: str) -> BaseStorage:
    """The storage behind a URL, as SQLAlchemy takes it.

    Raises:
        ValueError: it cannot be opened.
    """
    sqlite = {"connect_args": {"timeout": _PATIENCE_SECONDS}}
    try:
        return RDBStorage(url, engine_kwargs=sqlite if url.startswith("sqlite") else {})
    except Exception as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"storage: it cannot be opened ({first})") from error


@contextmanager
def plainly() -> Iterator[None]:
    """Say in one sentence what is wrong with a storage.

    Raises:
        StudyBusy: it does not answer, or not in time.
    """
    try:
        yield
    except StorageInternalError as error:
        cause = str(error.__cause__ or error).strip().splitlines()[0]
        raise StudyBusy(f"the study's storage does not answer: {cause}") from error
