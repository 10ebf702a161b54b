from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from src.config.credentials import problem_of_overrides
from src.records.trials import COMPLETE, RUNNING, TrialRecord
from src.search.driver import Budget, Driver
from src.search.jobs import Job
from src.search.loop import Observer
from src.search.pool import Pool
from src.search.space import StudySpec
from src.search.storage import open_database
from src.search.study import StudyBusy, SweepStudy
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot
from tests.search.postgres import PASSWORD, Postgres
from tests.search.studies import family, plan

_ROOT = Path(__file__).resolve().parents[2]
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

    return lambda: SweepStudy(next(folders), _plan(name), server.url)


def _plan(name: str) -> StudySpec:
    return plan(_FAMILY, name=name)


_OTHER_MACHINE = """
import socket, sys, time
socket.gethostname = lambda: "elsewhere"
from pathlib import Path
from tests.search.test_postgres import SweepStudy, _plan
study = SweepStudy(Path(sys.argv[1]), _plan(sys.argv[2]), sys.argv[3])
print("driving", flush=True)
time.sleep(600)
"""


def test_a_driver_on_another_machine_keeps_others_out_until_it_is_gone(
    server: Postgres,
    open_study: Callable[[], SweepStudy],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [str(tmp_path / "there"), request.node.name, server.url]
    with subprocess.Popen(
        [sys.executable, "-c", _OTHER_MACHINE, *words], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "driving\n"
            with pytest.raises(StudyBusy, match="elsewhere"):
                open_study()
        finally:
            other.kill()
    with pytest.raises(StudyBusy, match="wait a minute if it is dead"):
        open_study()
    monkeypatch.setattr("src.search.storage._LASTS_SECONDS", 0.0)
    monkeypatch.setattr("src.search.storage._WATCH_SECONDS", 0.0)
    open_study().close()


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


def test_a_server_that_is_away_is_told_in_a_sentence_and_nothing_is_lost(
    server: Postgres, open_study: Callable[[], SweepStudy]
) -> None:
    study = open_study()
    study.ask()
    study.report(0, 1, 0.5)
    server.stop()
    try:
        for action in (
            lambda: study.report(0, 2, 0.6),
            lambda: study.complete(0, [0.6]),
            study.ask,
            study.trials,
            lambda: study.recall("identity"),
        ):
            with pytest.raises(StudyBusy) as told:
                action()
            assert "Connection refused" in str(told.value)
            _require_plain(str(told.value))
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


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "storage: it cannot be opened"),
        ("postgresql+nonsense://127.0.0.1/x", "storage: it cannot be opened"),
        ("postgresql://bakeoff:wrong@HERE/postgres", "password authentication failed"),
    ],
)
def test_an_address_that_leads_nowhere(
    server: Postgres, tmp_path: Path, url: str, message: str
) -> None:
    here = server.url.partition("@")[2].partition("/")[0]
    with pytest.raises(ValueError, match=message) as refused:
        open_database(url.replace("HERE", here))
    assert "\n" not in str(refused.value) and "wrong" not in str(refused.value)


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


def test_without_the_driver_the_extra_is_named(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match="make install EXTRAS=postgres"):
        open_database(server.url)


class _StopsTheServer(Observer):
    """In the middle of the third trial."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._trials: dict[int, int] = {}

    def began(self, slot: int, trial: TrialRecord, epochs: int) -> None:
        self._trials[slot] = trial.number

    def reported(self, slot: int, step: int, metrics: Mapping[str, float]) -> None:
        if self._trials[slot] == 2 and step == 2:
            self._server.stop()


def _race(study: SweepStudy, folder: Path, *observers: Observer) -> None:
    pool = Pool(LocalEngine([Slot(None, 1)] * 2, "tests.search.runners:Tiny", folder))
    try:
        pool.start()
        Driver(
            study,
            pool,
            budget=Budget(trials=6),
            metrics=("val/accuracy",),
            job_of=lambda trial: Job({"seconds": 0.05}, epochs=3),
            observers=observers,
        ).race()
    finally:
        pool.close()


def test_a_race_ends_when_the_database_goes_and_goes_on_when_it_is_back(
    server: Postgres, open_study: Callable[[], SweepStudy], tmp_path: Path
) -> None:
    study = open_study()
    began = time.monotonic()
    with pytest.raises(StudyBusy, match=r"Connection refused|terminating connection"):
        _race(study, tmp_path, _StopsTheServer(server))
    assert time.monotonic() - began < 60
    study.close()
    server.start()
    with open_study() as again:
        before = {trial.number: trial for trial in again.trials()}
        assert before[0].state == before[1].state == COMPLETE
        assert RUNNING in {trial.state for trial in before.values()}
        _race(again, tmp_path)
        after = again.trials()
        assert [trial.number for trial in after] == list(range(6))
        assert {trial.state for trial in after} == {COMPLETE}
        for number, trial in before.items():
            assert after[number].values == trial.values
            assert after[number].curve[: len(trial.curve)] == trial.curve


@pytest.mark.slow
def test_a_sweep_says_that_its_database_went_and_goes_on_when_it_is_back(
    server: Postgres, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "src.sweep", f"storage={server.url}", f"output_dir={tmp_path}"),
        *("families=[mlp]", "search=[optimizer.lr]", "pruner=none", "budget.trials=3"),
        *("workers.count=1", "finalists=1", "finalist_seeds=1", "study=away"),
        *("trainer.max_epochs=4", "data.batch_size=64", "runtime=float32"),
    ]
    with subprocess.Popen(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as driver:
        assert driver.stdout is not None
        lines = iter(driver.stdout)
        assert any(line.startswith("trial 0") for line in lines)
        server.stop()
        rest = list(lines)
    try:
        assert driver.returncode == 1, rest
        (told,) = [line.strip() for line in rest if line.startswith("error: ")]
        assert "storage does not answer" in told and "Traceback" not in "".join(rest)
        _require_plain(told)
    finally:
        server.start()

    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "sweeps" / "away" / "sweep.json").read_text())
    assert [trial["number"] for trial in record["trials"]] == [0, 1, 2]
    assert {trial["state"] for trial in record["trials"]} == {"complete"}
    kept = [path for path in tmp_path.rglob("*") if path.suffix in {".yaml", ".json", ".jsonl"}]
    assert len(kept) > 5
    assert not [path for path in kept if PASSWORD in path.read_text()]
    assert PASSWORD.encode() not in (tmp_path / "mlflow.db").read_bytes()
