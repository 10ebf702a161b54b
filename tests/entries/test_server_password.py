"""A training whose MLflow server wants a name and a password, which are in the environment."""

from __future__ import annotations

import base64
import http.client
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.entries.commands import free_port, mlflow_server, rows
from tests.warm_python import WarmPython

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
NAME, PASSWORD = "somebody-x7Qz", "password-x7Qz"


class _Door(BaseHTTPRequestHandler):
    """Hands requests with the right name and password on to a server, and refuses all others."""

    protocol_version = "HTTP/1.1"
    server_port: int
    seen: list[int]

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wanted = "Basic " + base64.b64encode(f"{NAME}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != wanted:
            self._answer(401, b"who is there?", {"WWW-Authenticate": "Basic"})
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=60)
        kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        connection.request(self.command, self.path, body, kept)
        answer = connection.getresponse()
        found = {"Content-Type": answer.headers.get("Content-Type", "text/plain")}
        self._answer(answer.status, answer.read(), found)
        connection.close()

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.seen.append(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _hand_on

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def locked_server(folder: Path, database: Path) -> Iterator[tuple[str, list[int]]]:
    """A real MLflow server behind a password: its address, and the status of each answer."""
    inner, seen = free_port(), list[int]()
    handler = type("Door", (_Door,), {"server_port": inner, "seen": seen})
    with (
        mlflow_server(folder, inner, database),
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as door,
    ):
        threading.Thread(target=door.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{door.server_address[1]}", seen
        door.shutdown()


def test_a_server_with_a_password_gets_all_and_keeps_its_secret(
    environment: dict[str, str], warm_python: WarmPython, empty_database: Path, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    plain = environment | {"BAKEOFF_CACHE": str(tmp_path / "cache")}
    overrides = [
        "model=mlp",
        "trainer.max_epochs=2",
        "tracking.figures=false",
        f"output_dir={outputs}",
    ]
    secrets = {"MLFLOW_TRACKING_USERNAME": NAME, "MLFLOW_TRACKING_PASSWORD": PASSWORD}

    def typed(module: str, *overrides: str, known: bool) -> subprocess.CompletedProcess[str]:
        return warm_python.run(module, overrides, plain | (secrets if known else {}))

    with locked_server(tmp_path / "server", empty_database) as (address, seen):
        uri = f"tracking.uri={address}"
        right = typed("src.train", *overrides, uri, known=True)
        assert right.returncode == 0, right.stderr  # a busy machine may warn that it takes long
        assert 401 not in seen and 200 in seen
        wrong = typed("src.train", *overrides, "seed=1", uri, known=False)
        assert wrong.returncode == 0, wrong.stderr  # the run folder has everything
        assert "MLFLOW_TRACKING_USERNAME" in wrong.stderr and "replay" in wrong.stderr
        sent = typed("src.tracking.replay", f"output_dir={outputs}", known=True)
        assert sent.returncode == 0, sent.stderr
    statuses = rows(tmp_path / "server", "select status from runs")
    assert statuses.count("FINISHED") == 2
    printed = "".join(one.stdout + one.stderr for one in (right, wrong, sent))
    assert "x7Qz" not in printed
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if b"x7Qz" in path.read_bytes()] == []
