from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.reporting.comparison_figures import draw_comparison_figures
from src.reporting.draughtsmen import Draughtsmen
from tests.reporting.comparisons import exhibits

ALONE = {"leaderboard", "reliability", "confusion_1", "classes", "importance"}


def alone() -> object:
    return exhibits(1, classes=2, leaders=1, curves=False)


def pids(men: Draughtsmen) -> list[int]:
    return [process.pid for process in men._processes]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_however_many_there_are_they_draw_the_same(tmp_path: Path, count: int) -> None:
    expected = {
        path.name: path.read_bytes() for path in draw_comparison_figures(tmp_path / "a", alone())
    }
    with Draughtsmen(count) as men:
        drawn = list(men.draw(tmp_path / "b", alone()))
    assert {path.stem for path in drawn} == ALONE and len(drawn) == len(ALONE)
    assert {path.name: path.read_bytes() for path in drawn} == expected


@pytest.mark.parametrize("when", ["before", "while"])
def test_what_a_killed_one_leaves_is_drawn_here(tmp_path: Path, when: str) -> None:
    with Draughtsmen(2) as men:
        if when == "before":
            os.kill(pids(men)[0], signal.SIGKILL)
        paths = men.draw(tmp_path, alone())
        drawn = [next(paths)]
        if when == "while":
            os.kill(pids(men)[0], signal.SIGKILL)
            os.kill(pids(men)[1], signal.SIGKILL)
        drawn += paths
    assert {path.stem for path in drawn} == ALONE and len(drawn) == len(ALONE)
    assert all(path.stat().st_size for path in drawn)


def test_what_they_cannot_write_is_said_here(tmp_path: Path) -> None:
    (tmp_path / "figures").touch()
    with Draughtsmen(1) as men, pytest.raises(OSError, match="figures"):
        list(men.draw(tmp_path / "figures", alone()))


def test_they_end_with_whoever_began_them(tmp_path: Path) -> None:
    with Draughtsmen(1) as men:
        (pid,) = pids(men)
    assert not Path(f"/proc/{pid}").exists()
    code = (
        "from src.reporting.draughtsmen import Draughtsmen\n"
        "import time; men = Draughtsmen(1)\n"
        "print(men._processes[0].pid, flush=True); time.sleep(60)"
    )
    began = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert began.stdout is not None
    orphan = Path(f"/proc/{int(began.stdout.readline())}")
    began.kill()
    began.communicate()
    patience = time.monotonic() + 30
    while orphan.exists() and "Z" not in (orphan / "stat").read_text().split(")")[-1]:
        assert time.monotonic() < patience
        time.sleep(0.1)
