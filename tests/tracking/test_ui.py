from __future__ import annotations

import http.client
import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from src.config.checks import ConfigError, from_plain
from src.config.tracking import UISettings
from src.machine.failures import RunFailed
from src.tracking.mlflow_store import Store
from src.tracking.ui import show
from tests.entries.commands import free_port
from tests.tracking.diary import Diary, ui


def settings(output_dir: Path, port: int = 5000, uri: str | None = None) -> UISettings:
    plain: dict[str, Any] = {"output_dir": str(output_dir), "port": port, "tracking": {"uri": uri}}
    return from_plain(UISettings, plain)


def test_a_taken_port_is_named(output_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} cannot be used"):
            show(settings(output_dir, port))


def test_a_folder_without_a_database_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train something first"):
        show(settings(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_server_has_pages_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="open http://host:1"):
        show(settings(tmp_path, uri="http://host:1"))


@pytest.mark.slow
def test_a_database_of_a_later_mlflow_is_named(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES ('ffffffffffff')")
        database.commit()
    with pytest.raises(RunFailed, match="later version of MLflow"):
        show(settings(tmp_path, free_port()))


def status(
    port: int, host: str, path: str = "/", body: str | None = None, **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    method = "GET" if body is None else "POST"
    connection.request(method, path, body, headers={"Host": host, **headers})
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.slow
def test_the_pages_open_on_the_experiment_of_the_latest_run(output_dir: Path, store: Store) -> None:
    for run, experiment in enumerate(("shirts", "digits", "shirts")):
        diary = Diary(output_dir / "runs" / f"{run}")
        diary.ended(experiment=experiment, start_time_ms=run + 1).send(store)
    with ui(output_dir, free_port()) as line:
        assert "/#/experiments/1/runs?" in line


@pytest.mark.slow
def test_the_pages_are_for_this_machine_alone(output_dir: Path, store: Store) -> None:
    port = free_port()
    diary = Diary(output_dir / "runs" / "a")
    (diary.run_dir / "a.txt").write_text("what it says")
    with diary.open() as spool:
        spool.artifact(diary.run_dir / "a.txt")
        spool.end("FINISHED")
    found = diary.send(store).mlflow_run_id
    own = f"127.0.0.1:{port}"
    artifact = f"/get-artifact?run_uuid={found}&path=a.txt"
    with ui(output_dir, port) as line:
        assert f"http://{own}/#/experiments/1/runs?workflowType=machine_learning" in line
        for host in (own, f"localhost:{port}"):
            code, page = status(port, host)
            assert code == 200 and b"<title>MLflow</title>" in page
            assert status(port, host, artifact) == (200, b"what it says")
        foreign = ["evil.com", "10.evil.com", f"10.evil.com:{port}", "192.168.0.1"]
        for host in [*foreign, f"{own}.evil.com", "127.0.0.1:1"]:
            code, answer = status(port, host, artifact)
            assert code == 403 and b"what it says" not in answer, host
        assert status(port, own, artifact, Origin=f"http://{own}")[0] == 200
        for origin in ("http://evil.com", "http://localhost:1", "http://127.0.0.1", "null"):
            code, answer = status(port, own, artifact, Origin=origin)
            assert code == 403 and b"what it says" not in answer, origin
        renamed = json.dumps({"experiment_id": "1", "new_name": "taken over"})
        path, kind = "/ajax-api/2.0/mlflow/experiments/update", {"Content-Type": "application/json"}
        for origin, expected in ((f"http://{own}", 200), ("http://localhost:1", 403)):
            headers = kind | {"Origin": origin}
            assert status(port, own, path, renamed, **headers)[0] == expected, origin
