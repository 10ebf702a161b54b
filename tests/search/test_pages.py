from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import pytest

from src.search.pages import study_pages
from src.search.study import JOURNAL, SweepStudy
from tests.search.studies import NUMBERS, family, plan, run

pytest.importorskip("optuna_dashboard", reason="the extra `dashboard` is not installed")
_HOST = "127.0.0.1:8080"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sweeps" / "s"
    with SweepStudy(folder, plan(family(NUMBERS))) as study:
        run(study, 3)
    return folder


def _ask(
    pages: WSGIApplication,
    path: str,
    method: str = "GET",
    body: bytes = b"",
    **headers: str,
) -> tuple[int, bytes]:
    environment: dict[str, Any] = {"PATH_INFO": path, "HTTP_HOST": _HOST, "REQUEST_METHOD": method}
    environment |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    environment |= {"CONTENT_TYPE": "application/json", **headers}
    setup_testing_defaults(environment)
    told: list[str] = []

    def start(status: str, headers: Any, error: Any = None) -> Any:
        told.append(status)

    answer: Iterable[bytes] = pages(environment, start)
    return int(told[0].split()[0]), b"".join(answer)


def test_the_study_is_there_and_grows_while_it_is_shown(folder: Path) -> None:
    pages, path = study_pages("s", folder, None, hosts=[_HOST])
    assert path == "/dashboard/studies/0"
    assert _ask(pages, path)[0] == 200
    status, answer = _ask(pages, "/api/studies/0")
    shown = json.loads(answer)
    assert status == 200 and shown["name"] == "s"
    assert [trial["state"] for trial in shown["trials"]] == ["Complete"] * 3
    with SweepStudy(folder, plan(family(NUMBERS))) as study:
        run(study, 2)
        values = [trial.objectives for trial in study.trials()]
    time.sleep(2.1)  # the dashboard looks again after two seconds
    shown = json.loads(_ask(pages, "/api/studies/0")[1])
    assert [tuple(trial["values"]) for trial in shown["trials"]] == values


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/studies/0", b"{}"),
        ("POST", "/api/studies/0/rename", b'{"study_name": "other"}'),
        ("POST", "/api/studies", b'{"study_name": "other", "directions": ["minimize"]}'),
        ("PUT", "/api/studies/0/note", b'{"body": "hello", "version": 1}'),
        ("POST", "/api/trials/0/user-attrs", b'{"user_attrs": {"words": []}}'),
    ],
)
def test_nothing_can_be_written(folder: Path, method: str, path: str, body: bytes) -> None:
    before = (folder / JOURNAL).read_bytes()
    pages, _ = study_pages("s", folder, None, hosts=[_HOST])
    status, answer = _ask(pages, path, method=method, body=body)
    assert status == 403 and b"only show" in answer
    assert (folder / JOURNAL).read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["driver.lock", JOURNAL]


def test_a_study_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"other/study.journal: there are s; .* storage=URL"):
        study_pages("other", folder.parent / "other", None, hosts=[])
    with pytest.raises(ValueError, match="a sweep makes one"):
        study_pages("s", folder.parent.parent / "nowhere" / "s", None, hosts=[])
    assert sorted(path.name for path in folder.parent.iterdir()) == ["s"]
    url = f"sqlite:///{folder}/other.db"
    with pytest.raises(ValueError, match="no study other in this storage"):
        study_pages("other", folder, url, hosts=[])


def test_a_study_in_a_database(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    with SweepStudy(tmp_path / "elsewhere", plan(family(NUMBERS), name="first"), url) as study:
        run(study, 1)
    with SweepStudy(tmp_path / "s", plan(family(NUMBERS)), url) as study:
        run(study, 2)
    pages, path = study_pages("s", tmp_path / "s", url, hosts=[_HOST])
    assert path == "/dashboard/studies/2"
    assert len(json.loads(_ask(pages, "/api/studies/2")[1])["trials"]) == 2


def test_without_the_extra_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(ValueError, match=r"make install EXTRAS=dashboard$"):
        study_pages("s", folder, None, hosts=[])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        *(({"HTTP_HOST": host}, 403) for host in ("evil.com", "10.evil.com:8080", "127.0.0.1:1")),
        *(({"HTTP_HOST": host}, 403) for host in ("192.168.0.1", "")),
        ({"HTTP_ORIGIN": f"http://{_HOST}"}, 200),
        ({"HTTP_ORIGIN": "http://evil.com"}, 403),
        ({"HTTP_ORIGIN": "http://127.0.0.1:9999"}, 403),
        ({"HTTP_ORIGIN": "null"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "same-site", "HTTP_SEC_FETCH_MODE": "no-cors"}, 403),
        ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_SEC_FETCH_MODE": "navigate"}, 200),
    ],
)
def test_other_names_and_pages_of_other_servers_read_nothing(
    folder: Path, headers: dict[str, str], expected: int
) -> None:
    pages, _ = study_pages("s", folder, None, hosts=[_HOST])
    status, answer = _ask(pages, "/api/studies/0", **headers)
    assert status == expected and (b"trials" in answer) == (status == 200)
