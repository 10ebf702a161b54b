"""Databases that hold studies, and plain words for what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    if url.startswith("sqlite"):
        options: dict[str, Any] = {"connect_args": {"timeout": _PATIENCE_SECONDS}}
    else:  # a connection that was cut meanwhile is replaced before it is used
        options = {"pool_pre_ping": True}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        known = " (for PostgreSQL: make install EXTRAS=postgres)"
        hint = known if url.startswith("postgres") else ""
        cause = error.__cause__ or error
        raise ValueError(f"storage: its driver is not installed: {cause}{hint}") from error
    except Exception as error:
        raise ValueError(f"storage: it cannot be opened ({_said(error)})") from error


@contextmanager
def plainly() -> Iterator[None]:
    """Say in one sentence what is wrong with a storage.

    Raises:
        StudyBusy: it does not answer, or not in time.
    """
    try:
        yield
    except StorageInternalError as error:
        cause = _said(error.__cause__ or error)
        raise StudyBusy(
            f"the study's storage does not answer ({cause}); once it does, the same command goes on"
        ) from error


def _said(error: BaseException) -> str:
    """By the database, without the statement and the links around it."""
    # A connection that breaks within a transaction is reported by what the session refuses next.
    link: BaseException | None = error
    while link is not None and getattr(link, "orig", None) is None:
        link = link.__cause__ or link.__context__
    said = str(getattr(link, "orig", error)).strip()
    said = next(iter(said.splitlines()), type(error).__name__)
    return said.partition(" (Background on this error")[0]
