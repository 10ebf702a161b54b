"""A study's pages in optuna-dashboard, read-only: the driver is the only writer of a study."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from ..machine.own_pages import is_own
from .storage import translated_errors
from .study import JOURNAL
from .study_database import open_database

__all__ = ["study_pages"]


def study_pages(
    study: str, folder: Path, url: str | None, *, hosts: Collection[str]
) -> tuple[WSGIApplication, str]:
    """Return an application that shows a study, and the path of the study's page.

    The study is in a database (`url`) or in the journal of its folder; `hosts` are the values of
    the Host header that are answered.

    Raises:
        ValueError: there is no such study, its storage does not answer, or optuna-dashboard is not
            installed.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise ValueError(
            "this needs the package optuna-dashboard: pip install optuna-dashboard, or in the "
            "checkout make install EXTRAS=dashboard"
        ) from None
    storage = _open(study, folder, url)
    try:
        with translated_errors():
            number = storage.get_study_id_from_name(study)
    except KeyError:
        raise ValueError(f"there is no study {study} in this storage") from None
    return _read_only(wsgi(storage), hosts), f"/dashboard/studies/{number}"


def _open(study: str, folder: Path, url: str | None) -> BaseStorage:
    if url is not None:
        return open_database(url)
    journal = folder / JOURNAL
    if not journal.is_file():
        known = sorted(path.parent.name for path in folder.parent.glob(f"*/{JOURNAL}"))
        there = f"there are {', '.join(known)}" if known else "a sweep makes one (make sweep)"
        raise ValueError(
            f"there is no {journal}: {there}; of a study in a database, set storage=URL"
        )
    return JournalStorage(JournalFileBackend(str(journal)))


def _read_only(pages: WSGIApplication, hosts: Collection[str]) -> WSGIApplication:
    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        method = environment["REQUEST_METHOD"]
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environment.items()
            if name.startswith("HTTP_")
        }
        if not is_own(headers, method, hosts):
            return _refuse(start, "these pages are for this machine alone")
        if method not in ("GET", "HEAD"):
            return _refuse(start, "these pages only show: the sweep alone writes to its study")
        return pages(environment, start)

    return answer


def _refuse(start: StartResponse, reason: str) -> Iterable[bytes]:
    start("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
    return [reason.encode()]
