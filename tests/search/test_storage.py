"""Journals on real files (torn, damaged, on a full disk), leases, and what fails in databases."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import OperationalError, PendingRollbackError

from src.search.storage import Journal, Lease, StudyBusy, translated_errors
from src.storage.digests import line_content

ROOT = Path(__file__).resolve().parents[2]
# Trials until a file would become larger than allowed; then the same study once more.
_ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import optuna
from optuna.storages import JournalStorage
from src.search.storage import Journal

optuna.logging.set_verbosity(optuna.logging.ERROR)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
journal = Journal(path)
study = optuna.create_study(study_name="s", storage=JournalStorage(journal))
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
# Not a multiple of a line: the write that does not fit is torn.
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), limits[1]))
refused = None
while refused is None:
    try:
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, 0.5)
    except OSError as error:
        refused = error
assert refused.errno == 27, refused
told = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
assert path.read_bytes().endswith(b"}\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
trial = study.ask()
trial.suggest_float("x", 0, 1)
study.tell(trial, 0.25)
print(told + 1)
"""


def begin(path: Path) -> None:
    """A study with a trial of each kind."""
    journal = Journal(path)
    study = optuna.create_study(study_name="s", storage=JournalStorage(journal))
    study.enqueue_trial({"x": 0.5}, user_attrs={"default": True})
    for value in (0.5, None):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("c", ["a", "é\u2028"])
        trial.report(0.1, 1)
        if value is not None:
            study.tell(trial, value)
    journal.close()


def facts(study: optuna.Study) -> list[object]:
    trials = study.get_trials()
    return [(t.number, t.state, t.params, t.value, t.intermediate_values) for t in trials]


def test_optuna_reads_what_we_write_and_we_read_what_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    begin(path)
    theirs = optuna.load_study(
        study_name="s", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    theirs.tell(1, 0.25)
    theirs.ask()
    ours = optuna.load_study(study_name="s", storage=JournalStorage(Journal(path)))
    assert facts(ours) == facts(theirs)
    assert [trial.value for trial in ours.get_trials()] == [0.5, 0.25, None]


def test_cut_anywhere_it_opens_with_all_whole_lines(tmp_path: Path) -> None:
    begin(tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    path = tmp_path / "torn"
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        journal = Journal(path)
        whole = content[: content[:length].rfind(b"\n") + 1]
        assert path.read_bytes() == whole
        assert list(journal.read_logs(0)) == [line_content(line) for line in whole.splitlines()]
        journal.close()
    assert path.read_bytes() == content


@given(st.binary(max_size=30).filter(lambda tail: b"\n" not in tail[:-1]))
def test_whatever_a_power_cut_left_at_the_end_is_cut(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    path = tmp_path_factory.mktemp("cut") / "study.journal"
    begin(path)
    content = path.read_bytes()
    with path.open("ab") as file:
        file.write(tail)
    journal = Journal(path)
    journal.append_logs([{"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"a": 1}}])
    journal.close()
    kept = path.read_bytes()
    assert kept.startswith(content)
    study = optuna.load_study(study_name="s", storage=JournalStorage(Journal(path)))
    assert study.user_attrs == {"a": 1} and len(study.get_trials()) == 2


def test_a_flipped_byte_inside_is_refused_with_the_command_that_repairs_it(tmp_path: Path) -> None:
    """Also where the line is still an operation, with another value."""
    path = tmp_path / "study.journal"
    begin(path)
    content = path.read_bytes()
    end = content.rfind(b"\n", 0, -1)  # of the last line but one
    refused: list[str] = []
    for place in range(0, end, 3):
        flipped = bytearray(content)
        flipped[place] ^= 2
        path.write_bytes(flipped)
        try:
            journal = Journal(path)
        except ValueError as error:
            refused.append(str(error))
        else:  # the name of the checksum
            for ours, theirs in zip(journal.read_logs(0), content.splitlines(), strict=True):
                assert ours.items() >= line_content(theirs).items()
            journal.close()
        assert path.read_bytes() == flipped
    assert len(refused) > end / 3 * 0.8
    lines = content.splitlines(keepends=True)
    for damage in (b"\n", b"\0\0\0\n", b"[]\n", b"{}\n", b'{"op_code":\n'):
        path.write_bytes(b"".join([*lines[:3], damage, *lines[4:]]))
        with pytest.raises(ValueError, match=f"line 4 of {path} is damaged") as told:
            Journal(path)
        refused.append(str(told.value))
    assert all(f"src.verify study={path.parent} repair=true" in one for one in refused)
    assert str(path) not in [file.path for file in psutil.Process().open_files()]


def test_what_is_appended_is_read_from_any_place(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    journal = Journal(path)
    logs = [{"op_code": 4, "worker_id": "w", "text": "ä\n" * n} for n in range(5)]
    journal.append_logs(logs[:2])
    journal.append_logs(logs[2:])
    other = Journal(path)
    for one in (journal, other):
        assert [list(one.read_logs(n)) for n in range(7)] == [logs[n:] for n in range(7)]


@pytest.mark.parametrize("room", [3000, 3001, 3050, 3123])
def test_a_full_disk_leaves_the_study_whole(tmp_path: Path, room: int) -> None:
    path = tmp_path / "study.journal"
    done = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, str(path), str(room)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for storage in (Journal(path), JournalFileBackend(str(path))):
        study = optuna.load_study(study_name="s", storage=JournalStorage(storage))
        complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
        assert len(complete) == int(done.stdout) > 1
        assert complete[-1].value == 0.25


def _lost() -> Exception:
    return OperationalError("SELECT 1", {}, OSError("connection refused\nIs the server running?"))


def _refused(context: BaseException | None) -> Exception:
    """What a session says when a statement follows the one that failed."""
    error = PendingRollbackError("Can't reconnect until rolled back.", code="8s2b")
    error.__context__ = context
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (_lost(), "(connection refused)"),
        (_refused(_lost()), "(connection refused)"),
        (_refused(None), "(Can't reconnect until rolled back.)"),
    ],
    ids=["at once", "after a statement that failed", "nobody knows why"],
)
def test_the_database_is_quoted_and_not_what_stands_around(error: Exception, said: str) -> None:
    with pytest.raises(StudyBusy) as told, translated_errors():
        raise StorageInternalError("Optuna's words") from error
    assert said in str(told.value)
    assert "sqlalche.me" not in str(told.value) and "SQL:" not in str(told.value)


@pytest.mark.parametrize("host", ["elsewhere", socket.gethostname()])
@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_ends_no_lease_of_a_driver_that_lives(
    jump: float, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, pid = time.time(), os.getppid()
    kept: dict[str, Any] = {"driver": {"host": host, "pid": pid, "at": true}}
    monkeypatch.setattr(time, "time", lambda: true + jump)
    looks = []

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:  # it renews, by its own clock
            kept["driver"] = kept["driver"] | {"at": true + 15}

    monkeypatch.setattr(time, "sleep", look)
    with pytest.raises(StudyBusy, match=f"by process {pid} on {host}"):
        Lease("s", kept.get, kept.__setitem__).take()
    assert len(looks) == 3


def test_a_lease_ends_with_its_machine_a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    remember = kept.__setitem__
    kept["driver"] = {"host": "elsewhere", "pid": 7, "at": time.time() - 30}
    with pytest.raises(StudyBusy, match="by process 7 on elsewhere"):
        Lease("s", kept.get, remember).take()
    kept["driver"]["at"] -= 31
    monkeypatch.setattr("src.search.storage._WATCH_SECONDS", 0.0)
    lease = Lease("s", kept.get, remember)
    lease.take()
    taken = dict(kept["driver"])
    lease.renew()
    assert kept["driver"] == taken, "it need not be said all the time"
    clock = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: clock + 20)
    lease.renew()
    assert kept["driver"]["at"] > taken["at"]
    # Another machine's clock, or two that began in the same moment.
    kept["driver"] = {"host": "elsewhere", "pid": 7, "at": time.time()}
    monkeypatch.setattr(time, "monotonic", lambda: clock + 40)
    with pytest.raises(StudyBusy, match="has been taken over by process 7 on elsewhere"):
        lease.renew()
    lease.give_back()
    assert kept["driver"]["pid"] == 7, "what another one holds is not given back"
