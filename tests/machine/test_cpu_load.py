"""What other programs use is told from what this one does, and threads leave them their cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from src.machine import cpu_load
from src.machine.cpu_load import (
    CpuLoad,
    ThreadCount,
    is_idle,
    others_load,
    slowdown,
    threads_beside,
)
from src.machine.subprocesses import ROOT


class Machine:
    """Clocks of a machine on which others use `others` cores, and this process `own`."""

    def __init__(self, others: float, own: float) -> None:
        self.now, self.others, self.own = 0.0, others, own
        self.cores = {1, 3}  # others on other cores are no load

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def cpu_times(self, percpu: bool) -> list[tuple[float, ...]]:
        class Times(tuple[float, ...]):
            idle = 5.0

        assert percpu
        share = self.now * (self.others + self.own) / len(self.cores)
        busy = [share if core in self.cores else 7.0 * self.now for core in range(4)]
        return [Times((seconds, 5.0)) for seconds in busy]

    def times(self) -> SimpleNamespace:
        return SimpleNamespace(user=self.now * self.own * 0.75, system=self.now * self.own * 0.25)


def machine(monkeypatch: pytest.MonkeyPatch, others: float, own: float) -> Machine:
    made = Machine(others, own)
    monkeypatch.setattr(cpu_load.psutil, "cpu_times", made.cpu_times)
    monkeypatch.setattr(cpu_load.os, "times", made.times)
    monkeypatch.setattr(cpu_load.os, "sched_getaffinity", lambda _: made.cores, raising=False)
    monkeypatch.setattr(time, "perf_counter", lambda: made.now)
    monkeypatch.setattr(time, "sleep", made.sleep)
    return made


@pytest.mark.parametrize("own", [0.0, 1.0, 8.0])
@pytest.mark.parametrize(("others", "idle"), [(0.0, True), (0.2, True), (0.3, False), (6.0, False)])
def test_others_are_told_from_this_process(
    monkeypatch: pytest.MonkeyPatch, others: float, idle: bool, own: float
) -> None:
    made = machine(monkeypatch, others, own)
    assert others_load() == pytest.approx(others, abs=1e-9)
    assert is_idle() == idle
    with CpuLoad() as load:
        made.sleep(3.0)
    assert load.others == pytest.approx(others, abs=1e-9) and load.disturbed != idle


@pytest.mark.parametrize(
    ("cores", "others", "most", "threads"),
    [
        (2, 0.0, 2, 2),
        (2, 0.3, 2, 2),
        (2, 1.0, 2, 1),
        (2, 2.0, 2, 1),
        (16, 6.0, 16, 10),
        (16, 6.0, 4, 4),
        (16, 40.0, 16, 1),  # more than there are for this process
    ],
)
def test_threads_leave_others_their_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, others: float, most: int, threads: int
) -> None:
    monkeypatch.setattr(cpu_load, "available_cores", lambda: cores)
    assert threads_beside(others, most) == threads


@pytest.mark.parametrize(("others", "expected"), [(0.0, 4), (2.0, 2), (9.0, 1)])
def test_the_number_of_threads_follows_the_load(
    monkeypatch: pytest.MonkeyPatch, others: float, expected: int
) -> None:
    monkeypatch.setattr(cpu_load, "available_cores", lambda: 4)
    made = machine(monkeypatch, others, 2.0)
    threads = ThreadCount(4)
    made.sleep(0.01)
    assert threads.now() == 4  # too early to tell
    made.sleep(1.0)
    assert threads.now() == expected
    made.sleep(0.01)
    assert threads.now() == expected


@pytest.mark.parametrize(
    ("cores", "others", "share", "times"),
    [(2, 0.0, 1.0, 1.0), (2, 1.0, 1.0, 1.5), (2, 2.0, 2 / 3, 2.0), (8, 7.0, 0.5, 2.875)],
)
def test_work_takes_longer_by_all_that_want_a_core(
    monkeypatch: pytest.MonkeyPatch, cores: int, others: float, share: float, times: float
) -> None:
    made = machine(monkeypatch, others, share)

    def now() -> float:
        made.now += 0.01
        return made.now

    monkeypatch.setattr(time, "perf_counter", now)
    monkeypatch.setattr(time, "thread_time", lambda: made.now * share)
    monkeypatch.setattr(cpu_load, "available_cores", lambda: cores)
    assert slowdown() == pytest.approx(times, rel=0.06)


_BESIDE = """
import os, subprocess, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from src.machine.cpu_load import slowdown
loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
try:
    print(slowdown())
finally:
    for loop in loops:
        loop.kill()
        loop.wait()
"""


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="processes cannot be kept to a core"
)
def test_three_busy_processes_on_one_core_take_three_quarters_of_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BESIDE], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert float(done.stdout) > 2.5  # more where others are busy on that core as well
