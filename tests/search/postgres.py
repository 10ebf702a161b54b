"""A PostgreSQL of a test's own, from the system's package, on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

__all__ = ["PASSWORD", "Postgres"]

PASSWORD = "a-secret-word"
_SECONDS = 60.0


class Postgres:
    """Made empty and started; skips the test where the package is not installed."""

    def __init__(self) -> None:
        self._programs = _programs()
        # Outside of pytest's folders: those are closed to the user that the server runs as.
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._user = _unprivileged()
        if self._user is not None:
            os.chown(self._folder, self._user, -1)
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        subprocess.run(
            [
                *(str(self._programs / "initdb"), "--pgdata", str(self._folder / "data")),
                *("--username", "bakeoff", "--pwfile", str(password), "--auth", "scram-sha-256"),
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            user=self._user,
            cwd=self._folder,
        )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.url = f"postgresql://bakeoff:{PASSWORD}@127.0.0.1:{self._port}/postgres"
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._server = subprocess.Popen(
            [
                *(str(self._programs / "postgres"), "-D", str(self._folder / "data")),
                *("-p", str(self._port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
                *("-c", f"unix_socket_directories={self._folder}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user,
            cwd=self._folder,
        )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            assert self._server.poll() is None, "PostgreSQL did not start"
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.05)

    def stop(self) -> None:
        """At once: all connections are cut."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(_SECONDS)
            self._server = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def _answers(self) -> bool:
        ready = [str(self._programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(ready, capture_output=True, check=False).returncode == 0


def _programs() -> Path:
    known = [*Path("/usr/lib/postgresql").glob("*/bin")]
    on_path = shutil.which("initdb")
    if on_path is not None:
        known.append(Path(on_path).resolve().parent)
    whole = [folder for folder in known if (folder / "postgres").exists()]
    if not whole:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    return whole[-1]


def _unprivileged() -> int | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")
