"""A sweep whose SQLite file another process holds, as a backup does."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.entries.commands import wait_until
from tests.entries.conftest import Begin, Run
from tests.entries.sweeps import RACE, folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Seconds for which the sweep waits; by default it is 30.
PATIENCE = 5
_HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
held.execute("begin exclusive")
print("held", flush=True)
sys.stdin.read()
held.execute("rollback")
"""


@contextmanager
def _held(database: Path) -> Iterator[None]:
    """Another process lets nobody read or write the file."""
    command = [sys.executable, "-c", _HOLD, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as it:
        assert it.stdout is not None and it.stdin is not None
        assert it.stdout.readline() == "held\n"
        yield
        it.stdin.close()


def _reports(database: Path) -> int:
    """How many epochs were reported so far."""
    if not database.is_file():
        return 0
    with closing(sqlite3.connect(database)) as opened:
        try:
            (count,) = opened.execute("select count(*) from trial_intermediate_values").fetchone()
        except sqlite3.OperationalError:  # its tables are just being made
            return 0
    return int(count)


def test_a_locked_database_is_waited_for_and_then_told_in_a_sentence(
    begin: Begin, run: Run, tmp_path: Path
) -> None:
    database = tmp_path / "study.db"
    overrides = [
        *(*RACE, "pruner=none", "trainer.max_epochs=6", "data.batch_size=8"),
        *("budget.trials=2", "tracking=none", f"output_dir={tmp_path}"),
        f"storage='sqlite:///{database}?timeout={PATIENCE}'",
    ]
    sweep = begin("src.sweep", *overrides)
    count = wait_until(lambda: _reports(database), sweep, pause=0.05)
    with _held(database):
        time.sleep(PATIENCE / 2)
        assert sweep.poll() is None
    wait_until(lambda: _reports(database) > count, sweep, pause=0.05)  # nothing happened
    with _held(database):
        _, error = sweep.communicate()
    assert sweep.returncode == 1 and "Traceback" not in error, error
    assert error.splitlines()[-1] == (
        "error: the study's storage does not answer (database is locked); once it does, the same "
        "command goes on"
    )

    known = _reports(database)
    result = run("src.sweep", *overrides)
    assert result.returncode == 0, result.stderr
    record = json.loads((folder(tmp_path) / "sweep.json").read_text())
    assert [trial["number"] for trial in record["trials"]] == [0, 1]
    for trial in record["trials"]:
        assert trial["state"] == "complete"
        epochs = [epoch for epoch, _ in trial["curve"]]
        assert epochs == sorted(set(epochs)) and epochs[-1] == 6
    # At most the epoch that the worker was just telling of.
    assert 2 * 6 - 1 <= _reports(database) <= 2 * 6 and _reports(database) > known
