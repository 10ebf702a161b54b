"""How a command ends: its exit code, its output, and what it has registered for the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import atexit, sys, threading, time
from src.machine.ending import leave

class Last:
    def __del__(self):
        print("collected")

last = Last()
last.itself = last
atexit.register(lambda: print("registered"))
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
sys.stdout.write("begun, ")
{ending}
"""


def ended(ending: str) -> tuple[int, str]:
    line = [sys.executable, "-c", _PROGRAM.format(ending=ending)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("code", [0, 2, 143])
def test_all_is_done_as_always_but_the_collection_of_objects(code: int) -> None:
    usual = ended(f"sys.exit({code})")
    assert usual == (code, "begun, thread\nregistered\ncollected\n")
    assert ended(f"leave({code})") == (code, "begun, thread\nregistered\n")
