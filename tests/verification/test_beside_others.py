"""Verification beside other processes: those that write, those that died, and those of others."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from filelock import FileLock

from src.runs.folder import RunFolder
from src.storage.cache import cached
from src.storage.files import write_atomically
from src.tracking.events import read_events, spool_path
from src.tracking.mlflow_database import make_database
from src.tracking.spool import Spool
from tests.tracking.diary import ENVIRONMENT, ROOT
from tests.verification.test_verifying import checked, faults_of, sealed_run, study_of

# Root without its capabilities is refused what any other user would be.
_WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def damage(folder: Path) -> bytes:
    """Damage the metrics of a run's spool, and return what is left of it."""
    path = spool_path(folder)
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6"))
    return path.read_bytes()


def test_a_spool_is_not_repaired_while_another_process_writes_or_sends_it(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path).path
    before = damage(folder)
    state = folder / "tracking" / "mirror.json"
    state.write_text("{}")
    faults = faults_of(tmp_path)
    with Spool(folder):  # another command begins before its turn comes
        assert "without 1 run being written" in checked(tmp_path)
        assert checked(tmp_path, f"run={folder.name}").startswith("no run, since one writes ")
        assert faults_of(tmp_path, "repair=true") == []
    with FileLock(folder / "tracking" / "mirror.lock"):
        (fault,) = faults_of(tmp_path, "repair=true")
        assert not fault.repaired and "being sent to MLflow" in fault.remedy
    assert spool_path(folder).read_bytes() == before and state.exists() and len(faults) == 1
    (fault,) = faults_of(tmp_path, "repair=true")
    assert fault.repaired and not state.exists()


def test_a_study_that_runs_is_not_counted(tmp_path: Path) -> None:
    study_of(tmp_path / "sweeps" / "s")
    assert checked(tmp_path).startswith(f"0 runs and 1 study in {tmp_path}, ")
    with FileLock(tmp_path / "sweeps" / "s" / "driver.lock"):
        assert f"0 studies in {tmp_path} (without 1 study being" in checked(tmp_path)
        assert checked(tmp_path, "study=s").startswith("no study")


@pytest.mark.parametrize("end", [None, "KILLED"])
def test_a_run_that_finished_gets_its_end_back(tmp_path: Path, end: str | None) -> None:
    folder = sealed_run(tmp_path)
    path = spool_path(folder.path)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b'{"event":"finish"')])
    if end is not None:
        with Spool(folder.path) as spool:
            spool.end(end, "the process ended without a result")
    for overrides in ([], ["repair=true"]):
        (fault,) = faults_of(tmp_path, *overrides)
        assert fault.place == path and "FINISHED" in fault.what
        assert fault.repaired is bool(overrides)
    assert faults_of(tmp_path) == []
    found = [event for event, _ in read_events(path)]
    assert found[-1]["event"] == "finish" and found[-1]["status"] == "FINISHED"
    # What MLflow showed of the other end goes with a start that amends.
    assert [one["amends"] is None for one in found if one["event"] == "start"] == [
        True,
        *([] if end is None else [False]),
    ]


def test_a_damaged_end_is_put_aside_and_made_anew(tmp_path: Path) -> None:
    folder = sealed_run(tmp_path)
    path = spool_path(folder.path)
    path.write_bytes(path.read_bytes().replace(b"FINISHED", b"FINISHEE"))
    assert len(faults_of(tmp_path)) == 1
    aside, end = faults_of(tmp_path, "repair=true")
    assert aside.repaired and end.repaired
    assert [event for event, _ in read_events(path)][-1]["status"] == "FINISHED"
    assert faults_of(tmp_path) == []


def test_a_change_that_a_killed_process_left_in_a_database_is_no_damage(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE tags (value TEXT)")
        connection.executemany("INSERT INTO tags VALUES (?)", [("x" * 500,) for _ in range(200)])
        connection.commit()
    code = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('PRAGMA cache_size=1')\n"
        "c.execute('BEGIN IMMEDIATE')\n"
        "c.execute('UPDATE tags SET value = hex(randomblob(250))')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(database)], check=False)
    journal = database.with_name("mlflow.db-journal")
    assert done.returncode == -signal.SIGKILL and journal.stat().st_size > 0
    before = journal.read_bytes(), database.read_bytes()
    assert faults_of(tmp_path) == []
    assert (journal.read_bytes(), database.read_bytes()) == before, "taken back in a copy"
    assert faults_of(tmp_path, "repair=true") == [] and not journal.exists()
    with closing(sqlite3.connect(database)) as connection:
        assert {*connection.execute("SELECT DISTINCT value FROM tags")} == {("x" * 500,)}


def contents(*folders: Path) -> dict[Path, tuple[int, int, bytes]]:
    """The inode, time of change and content of each file, but of locks, which are empty."""
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_nothing_is_changed_without_repair(tmp_path: Path) -> None:
    output, cache = tmp_path / "out", tmp_path / "cache"
    runs = [sealed_run(output) for _ in range(3)]
    damage(runs[0].path)
    write_atomically(runs[1].earlier_exports / "export.json", "old")
    for place in (runs[2].earlier_exports, runs[2].exports):
        write_atomically(place / "export.json", place.name)
    path = spool_path(runs[2].path)
    path.write_bytes(path.read_bytes()[:-9])
    study_of(output / "sweeps" / "s")
    journal = output / "sweeps" / "s" / "study.journal"
    journal.write_bytes(journal.read_bytes()[:-9])
    store = cache / "features" / "key"
    cached(store, lambda folder: write_atomically(folder / "a", "a") or {}, what="the features")
    (store / "a").write_text("b")
    (cache / "features" / "x.unfinished").mkdir()
    before = contents(output, cache)
    named = {fault.place for fault in faults_of(output)}
    assert {runs[1].earlier_exports, runs[2].earlier_exports, journal, store} < named
    for run in runs:
        for name in (run.name, run.run_id, run.path):
            faults_of(output, f"run={name}")
    faults_of(output, "study=s")
    assert contents(output, cache) == before
    assert all(fault.repaired for fault in faults_of(output, "repair=true"))
    assert faults_of(output) == [] and not any(run.earlier_exports.exists() for run in runs)
    assert (runs[1].exports / "export.json").read_text() == "old"
    assert (runs[2].exports / "export.json").read_text() == "exports"


@pytest.mark.parametrize("name", ["run.json", "summary.json", "checkpoints/last.ckpt", "seal.json"])
def test_a_pipe_among_the_files_of_a_run_is_named_and_not_waited_for(
    tmp_path: Path, name: str
) -> None:
    folder = sealed_run(tmp_path)
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(folder.path / name)
    for overrides in ([], ["repair=true"], [f"run={folder.path}"]):
        (fault,) = faults_of(tmp_path, *overrides)
        assert (fault.place, fault.what) == (folder.path / name, "is a pipe, and no file")
    for given in (folder.name, str(folder.path)):
        with pytest.raises(ValueError, match=f"{name} is a pipe, and no file: remove it"):
            RunFolder.find(given, tmp_path)
    with pytest.raises(ValueError, match="there is no run"):
        RunFolder.find("nobody", tmp_path)


@pytest.mark.parametrize("name", ["sweeps/s/study.journal", "sweeps/s/sweep.json", "mlflow.db"])
def test_a_pipe_in_an_output_folder_is_named_and_not_waited_for(tmp_path: Path, name: str) -> None:
    study_of(tmp_path / "sweeps" / "s")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    assert [fault.place for fault in faults_of(tmp_path)] == [tmp_path / name]


def test_a_journal_beside_a_damaged_database_goes_with_it(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"no database" * 500)
    (fault,) = faults_of(tmp_path)
    assert "mlflow.db-journal, mlflow.db-wal" in fault.remedy
    database.unlink()
    for end in ("-journal", "-wal"):
        left = database.with_name(f"mlflow.db{end}")
        left.write_bytes(b"x")
        with pytest.raises(FileExistsError, match=f"mlflow.db{end} is left of another database"):
            make_database(database)
        left.unlink()
    assert not database.exists()


def test_what_killed_processes_left_is_removed_unless_it_is_still_made(tmp_path: Path) -> None:
    store = tmp_path / "cache" / "features"
    cached(store / "whole", lambda folder: {}, what="the features")
    left = [store / "one.unfinished", store / f"two.{'a1' * 16}.unfinished"]
    for folder in left:
        folder.mkdir()
        (folder / "data.bin").write_bytes(b"x")
    output = tmp_path / "out"
    output.mkdir()
    database = output / f".{'a1' * 16}.db"
    database.write_bytes(b"x")
    (output / ".mine.db").write_bytes(b"x")
    assert faults_of(output) == []
    with FileLock(store / "two.lock"), FileLock(output / "mlflow.db.lock"):
        (fault,) = faults_of(output, "repair=true")
        assert fault.place == left[0] and fault.repaired
    assert {fault.place for fault in faults_of(output, "repair=true")} == {left[1], database}
    assert not left[1].exists() and not database.exists()
    assert (output / ".mine.db").exists() and (store / "whole").exists()


def test_folders_that_may_only_be_read_are_verified(tmp_path: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root is refused nothing, and there is no setpriv")
    output = tmp_path / "out"
    whole, other = (sealed_run(output).path for _ in range(2))
    damage(other)
    study_of(output / "sweeps" / "s")
    folders = [path for path in output.rglob("*") if path.is_dir()]
    for lock in output.rglob("*.lock"):
        lock.unlink()
    prefix = _WITHOUT_RIGHTS if os.geteuid() == 0 else ()
    overrides = ["-m", "src.verify", f"output_dir={output}", f"cache_dir={tmp_path / 'cache'}"]
    for folder in folders:
        folder.chmod(0o555)
    try:
        for repair, remedy in (("false", "repair=true puts it aside"), ("true", "may not write")):
            done = subprocess.run(
                [*prefix, sys.executable, *overrides, f"repair={repair}"],
                env=ENVIRONMENT,
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            fault, count = done.stdout.splitlines()
            assert done.returncode == 1 and done.stderr == ""
            assert fault.startswith(f"damaged  {spool_path(other)}: line 2") and remedy in fault
            assert count.startswith("checked 2 runs and 1 study")
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert whole.exists()
