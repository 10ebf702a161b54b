from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from src.config.checks import ConfigError, from_plain
from src.config.tracking import UISettings
from src.tracking.mlflow_store import Store
from src.tracking.ui import show
from tests.tracking.diary import Diary, python


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


def status(port: int, host: str, path: str = "/", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": host, **headers})
    answer = connection.getresponse()
    return answer.status, answer.read()


def posted(port: int, host: str, body: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    path = "/ajax-api/2.0/mlflow/experiments/update"
    sent = {"Host": host, "Content-Type": "application/json", **headers}
    connection.request("POST", path, body, headers=sent)
    return connection.getresponse().status


@pytest.mark.slow
def test_the_pages_are_for_this_machine_alone(
    output_dir: Path, store: Store, unused_port: int
) -> None:
    diary = Diary(output_dir / "runs" / "a")
    (diary.run_dir / "a.txt").write_text("what it says")
    with diary.open() as spool:
        spool.artifact(diary.run_dir / "a.txt")
        spool.end("FINISHED")
    found = diary.send(store).mlflow_run_id
    words = ["-m", "src.tracking.ui", f"output_dir={output_dir}", f"port={unused_port}"]
    process = python(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("starting MLflow")
        address = (
            f"http://127.0.0.1:{unused_port}/#/experiments/1/runs?workflowType=machine_learning"
        )
        assert address in process.stdout.readline()
        for own in (f"127.0.0.1:{unused_port}", f"localhost:{unused_port}"):
            code, page = status(unused_port, own)
            assert code == 200 and b"<title>MLflow</title>" in page
            assert status(unused_port, own, f"/get-artifact?run_uuid={found}&path=a.txt") == (
                200,
                b"what it says",
            )
        foreign = ["evil.com", "10.evil.com", f"10.evil.com:{unused_port}", "192.168.0.1"]
        for host in [*foreign, f"127.0.0.1:{unused_port}.evil.com", "127.0.0.1:1"]:
            code, answer = status(unused_port, host, f"/get-artifact?run_uuid={found}&path=a.txt")
            assert code == 403 and b"what it says" not in answer, host
        own = f"127.0.0.1:{unused_port}"
        artifact = f"/get-artifact?run_uuid={found}&path=a.txt"
        assert status(unused_port, own, artifact, Origin=f"http://{own}")[0] == 200
        for origin in ("http://evil.com", "http://localhost:1", "http://127.0.0.1", "null"):
            code, answer = status(unused_port, own, artifact, Origin=origin)
            assert code == 403 and b"what it says" not in answer, origin
        renamed = json.dumps({"experiment_id": "1", "new_name": "taken over"})
        for origin, expected in ((f"http://{own}", 200), ("http://localhost:1", 403)):
            code = posted(unused_port, own, renamed, Origin=origin)
            assert code == expected, origin
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and err == ""
    with socket.socket() as probe:  # the server is gone with it
        assert probe.connect_ex(("127.0.0.1", unused_port)) != 0
