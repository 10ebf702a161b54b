"""What is known of the memory of the machine and of the process."""

from __future__ import annotations

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
