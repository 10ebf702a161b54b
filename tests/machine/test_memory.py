"""What is known of the memory of the machine and of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from src.machine import memory
from src.machine.memory import available_memory, peak_memory, total_memory


def test_programs_can_have_a_part_of_what_there_is() -> None:
    assert 0 < available_memory() < total_memory()


def test_the_peak_counts_what_was_held_and_let_go() -> None:
    held = len(bytearray(b"x") * 300_000_000)
    assert peak_memory() > held


def test_the_peak_is_known_without_proc_and_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, of which psutil tells it."""
    monkeypatch.setattr(memory, "Path", lambda *_: Path("there is no such file"))
    monkeypatch.setitem(sys.modules, "resource", None)
    info = SimpleNamespace(rss=1, peak_wset=123)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: info)
    assert peak_memory() == 123


def test_the_peak_is_not_that_of_the_parent() -> None:
    """As getrusage would have it on Linux."""
    ballast = bytearray(b"x") * 300_000_000
    code = (
        "from src.machine.memory import peak_memory as peak;"
        "before = peak(); ballast = bytearray(b'x') * 300_000_000;"
        "print(peak() - before)"
    )
    command = [sys.executable, "-c", code]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown > 0.5 * len(ballast)


_FAULTS = """
import resource, sys
from contextlib import nullcontext
from src.machine.memory import memory_kept

def faults(size, times=20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        bytearray(size)  # which is written to
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""


def _printed(code: str, **environment: str) -> list[int]:
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", _FAULTS + code]
    done = subprocess.run(
        command, env=usual | environment, capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's C library is Linux's")
def test_what_was_freed_is_used_again_within_the_block_and_given_back_at_its_end() -> None:
    """Blocks of 50 MB, which the C library's own rules map anew each time: 4 KB a fault at most."""
    code = """
import psutil
rss = lambda: psutil.Process().memory_info().rss >> 20
usual, held = faults(50_000_000), rss()
with memory_kept():
    with memory_kept():
        faults(50_000_000, 1)
    inside, kept = faults(50_000_000), rss() - held
print(usual, inside, kept, rss() - held, faults(50_000_000))
"""
    usual, inside, kept, left, after = _printed(code)
    assert inside < usual / 100
    assert kept > 40 and left < 10
    assert after > usual / 2


@pytest.mark.skipif(sys.platform != "linux", reason="GNU's C library is Linux's")
def test_rules_that_a_person_set_stay() -> None:
    code = """
with memory_kept():
    faults(50_000_000, 1)
    print(faults(50_000_000))
"""
    (faulted,) = _printed(code, MALLOC_MMAP_THRESHOLD_="1000000")
    assert faulted > 1000


def test_where_there_is_no_such_library_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    memory._gnu_library.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    with memory.memory_kept():
        pass
    monkeypatch.undo()
    memory._gnu_library.cache_clear()


def test_the_rules_are_the_usual_ones_again_after_the_last_of_several_threads() -> None:
    code = """
import threading
first, second = threading.Event(), threading.Event()

def holds():
    with memory_kept():
        first.set()
        second.wait()

thread = threading.Thread(target=holds)
thread.start()
first.wait()
with memory_kept():
    pass
faults(50_000_000, 1)
print(faults(50_000_000))
second.set()
thread.join()
print(faults(50_000_000))
"""
    if sys.platform == "linux":
        held, after = _printed(code)
        assert held < after / 100
