"""Programs of others end with whoever started them, however that ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from src.machine.interruption import Interrupted, Interruption
from src.machine.subprocesses import run_bound

# A program with a child of its own, neither of which cares about its parent.
_PROGRAM = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path(sys.argv[1]).write_text(f"{child.pid}")
time.sleep(600)
"""
_STARTER = """
import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup as well
import sys
from src.machine.subprocesses import run_bound
run_bound([sys.executable, "-c", sys.argv[1], sys.argv[2]])
"""


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _all_end(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    while any(map(_alive, pids)):
        assert time.monotonic() < deadline, "something lives on"
        time.sleep(0.02)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_outlives_who_started_it(signum: signal.Signals, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = [sys.executable, "-c", _STARTER, _PROGRAM, str(pid_file)]
    with subprocess.Popen(command) as starter:
        last = int(_written(pid_file, starter))
        family = [child.pid for child in psutil.Process(starter.pid).children(recursive=True)]
        assert last in family and len(family) == 3
        starter.send_signal(signum)
        starter.wait()
    _all_end(family)


def test_a_process_of_a_further_device_ends_with_the_first(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    further = (
        "import os, sys, time; from pathlib import Path\n"
        "from src.machine.subprocesses import end_with_parent\n"
        "end_with_parent(); Path(sys.argv[1]).write_text(f'{os.getpid()}')\n"
        "time.sleep(600)"
    )
    first = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    with subprocess.Popen([sys.executable, "-c", first, further, str(pid_file)]) as starter:
        pid = int(_written(pid_file, starter))
        time.sleep(1.2)
        assert _alive(pid), "it ends before there is a reason"
        starter.kill()
    _all_end([pid])


def _written(file: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while not (file.is_file() and file.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    return file.read_text()


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_passed_on(code: int) -> None:
    assert run_bound([sys.executable, "-c", f"raise SystemExit({code})"]) == code


def test_an_interrupted_wait_lets_the_command_save_first(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    program = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "def save(*_):\n"
        "    time.sleep(0.3); Path(sys.argv[1]).write_text('saved'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "os.kill(int(sys.argv[2]), signal.SIGTERM)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(saved), str(psutil.Process().pid)]
    with pytest.raises(Interrupted), Interruption():
        run_bound(command)
    assert saved.read_text() == "saved"


def test_a_closed_terminal_interrupts_and_nohup_prevents_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with pytest.raises(Interrupted) as caught, Interruption():
            signal.raise_signal(signal.SIGHUP)
        assert caught.value.exit_code == 129
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.pending
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
