from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.config.credentials import problem_of_overrides
from src.search.study import StudyBusy, SweepStudy
from src.search.study_database import open_database
from tests.conftest import Outputs
from tests.entries.commands import free_port, kill, wait_until
from tests.search.studies import family, plan
from tests.warm_python import WarmPython

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
        self._port = free_port()
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
    known = {user.pw_name: user.pw_uid for user in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return known[name]
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


_FAMILY = family({"optimizer.lr": {"low": 1e-4, "high": 1.0, "log": True}})


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def open_study(server: Postgres, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Opens the test's study, each time from another folder, as another machine would."""
    name = request.node.name
    folders = (tmp_path / str(n) for n in range(100))

    return lambda: SweepStudy(next(folders), plan(_FAMILY, name=name), server.url)


def test_a_driver_on_another_machine_keeps_others_out_until_it_is_gone(
    open_study: Callable[[], SweepStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "elsewhere")
        other = open_study()
    with pytest.raises(StudyBusy, match=r"on elsewhere .*wait a minute if it is dead"):
        open_study()
    monkeypatch.setattr("src.search.storage._LASTS_SECONDS", 0.0)
    monkeypatch.setattr("src.search.storage._WATCH_SECONDS", 0.0)
    open_study().close()
    other.close()


def test_a_restart_of_the_server_between_two_words_is_not_noticed(
    server: Postgres, open_study: Callable[[], SweepStudy]
) -> None:
    with open_study() as study:
        study.ask()
        study.report(0, 1, 0.5)
        server.restart()
        study.report(0, 2, 0.6)
        server.restart()
        study.complete(0, [0.6])
        server.restart()
        assert study.recall("identity") == study.spec.identity
        assert study.trial(0).curve == ((1, 0.5), (2, 0.6))


def test_a_server_that_is_away_is_waited_for(
    server: Postgres, open_study: Callable[[], SweepStudy], caplog: pytest.LogCaptureFixture
) -> None:
    with open_study() as study:
        study.ask()
        server.stop()
        starting = threading.Timer(1.0, server.start)
        starting.start()
        study.report(0, 1, 0.5)
        starting.join()
        study.complete(0, [0.5])
    (told,) = caplog.messages
    assert "does not answer" in told and "Connection refused" in told and "30 s" in told
    _require_plain(told)
    with open_study() as again:
        assert again.trial(0).curve == ((1, 0.5),)


def test_a_server_that_is_away_is_told_in_a_sentence_and_nothing_is_lost(
    server: Postgres, open_study: Callable[[], SweepStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.search.study_database._PATIENCE_SECONDS", 0)
    study = open_study()
    study.ask()
    study.report(0, 1, 0.5)
    server.stop()
    try:
        for action in (
            lambda: study.report(0, 2, 0.6),
            lambda: study.complete(0, [0.6]),
            study.ask,
            lambda: study.recall("identity"),
        ):
            with pytest.raises(StudyBusy) as told:
                action()
            assert "Connection refused" in str(told.value)
            _require_plain(str(told.value))
        assert study.trial(0).curve == ((1, 0.5),), "what was not written is not known here"
        study.close()
        with pytest.raises(ValueError, match="storage: it cannot be opened") as refused:
            open_study()
        _require_plain(str(refused.value))
    finally:
        server.start()
    with open_study() as again:
        (left,) = again.unfinished()
        assert left.curve == ((1, 0.5),)
        again.report(0, 2, 0.6)
        again.complete(0, [0.6])


def _require_plain(message: str) -> None:
    assert "\n" not in message and PASSWORD not in message
    for technical in ("sqlalche.me", "psycopg.", "SQL:"):
        assert technical not in message


def test_the_password_comes_from_the_environment_and_the_address_holds_none(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.url.replace(f":{PASSWORD}@", "@")
    assert problem_of_overrides([f"storage={server.url}"]) is not None
    assert problem_of_overrides([f"storage={address}"]) is None
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    open_database(address)
    monkeypatch.delenv("PGPASSWORD")
    pass_file = tmp_path / "passwords"
    pass_file.write_text(f"*:*:*:*:{PASSWORD}\n")
    pass_file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(pass_file))
    open_database(address)
    with pytest.raises(ValueError, match="password authentication failed") as refused:
        open_database(server.url.replace(PASSWORD, "wrong"))
    assert "\n" not in str(refused.value) and "wrong" not in str(refused.value)


def test_without_the_driver_the_extra_is_named(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match="make install EXTRAS=postgres"):
        open_database(server.url)


@pytest.mark.slow
def test_a_sweep_says_that_its_database_went_and_goes_on_when_it_is_back(
    server: Postgres, outputs: Outputs, warm_python: WarmPython
) -> None:
    output_dir = outputs("away")
    url = server.url.replace(f":{PASSWORD}", "")
    secret = os.environ | {"PGPASSWORD": PASSWORD, "OMP_NUM_THREADS": "1"}
    overrides = [
        *(f"storage={url}", f"output_dir={output_dir}"),
        *("families=[mlp]", "search=[optimizer.lr]", "pruner=none", "budget.trials=3"),
        *("workers.count=1", "finalists=1", "finalist_seeds=1", "study=away"),
        *(
            "trainer.max_epochs=4",
            "data.batch_size=64",
            "runtime=float32",
            "tracking.figures=false",
        ),
    ]
    driver = warm_python.begin("src.sweep", overrides, secret)
    try:
        wait_until(lambda: "mlp-0" in "".join(driver.printed()), driver, pause=0.05)
        server.stop()
        rest = "".join(driver.communicate()).splitlines()
        assert driver.returncode == 1, rest
        (told,) = [line.strip() for line in rest if line.startswith("error: ")]
        assert "storage does not answer" in told and "Traceback" not in "".join(rest)
        _require_plain(told)
    finally:
        if driver.poll() is None:
            kill(driver)
        server.restart()

    done = warm_python.run("src.sweep", overrides, secret)
    assert done.returncode == 0, done.stderr
    record = json.loads((output_dir / "sweeps" / "away" / "sweep.json").read_text())
    assert [trial["number"] for trial in record["trials"]] == [0, 1, 2]
    assert {trial["state"] for trial in record["trials"]} == {"complete"}
    kept = [path for path in output_dir.rglob("*") if path.suffix in {".yaml", ".json", ".jsonl"}]
    assert len(kept) > 5
    assert not [path for path in kept if PASSWORD in path.read_text()]
    assert PASSWORD.encode() not in (output_dir / "mlflow.db").read_bytes()
