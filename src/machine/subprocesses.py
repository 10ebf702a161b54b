"""Child processes: how they find this code, and how they end with the process that started them.

python -m src.machine.subprocesses COMMAND...

runs a command until it ends or standard input is closed, as the system does for a parent that was
killed with SIGKILL; the command and all processes that it started are then ended. It is meant for
programs that do not watch their parent themselves, such as the MLflow server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .package import module_command

__all__ = ["ROOT", "bound_command", "end_with_parent", "import_environment", "main", "run_bound"]

# The folder that this package is imported from, such as that of the checkout.
ROOT = Path(__file__).resolve().parents[2]
# Long enough for a training to save.
_GRACE_SECONDS = 10.0
_POLL_SECONDS = 0.5


def import_environment() -> dict[str, str]:
    """Return the variables with which `python -m src....` finds this code from any folder.

    The user's own PYTHONPATH comes after it.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Without PYTHONSAFEPATH the current folder comes first, and it may have a `src` of its own.
    return {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}


def bound_command(command: Sequence[str]) -> list[str]:
    """Return the command line that runs `command` until its standard input, a pipe, is closed."""
    return module_command("machine.subprocesses", *command)


def run_bound(command: Sequence[str]) -> int:
    """Run a command that ends with this process and return its exit code.

    An exception while it runs, such as Ctrl-C, ends it first.
    """
    with subprocess.Popen(bound_command(command), stdin=subprocess.PIPE) as process:
        try:
            return process.wait()
        finally:
            assert process.stdin is not None
            process.stdin.close()


def end_with_parent() -> None:
    """Watch the process that started this one, and end this one after it.

    For the processes of further devices, which Lightning starts and which would wait for each other
    for ever once the first is killed. Call early: a parent that is gone already is not noticed.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def main() -> int:
    """Run the command of the command line; return its exit code, negative for a signal."""
    # A terminal's Ctrl-C is handled by the parent, which then closes standard input.
    for name in ("SIGINT", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: _signal_group(process, signal.SIGTERM))
    threading.Thread(target=_end_with_input, args=(process,), daemon=True).start()
    code = process.wait()
    _kill_group(process)  # what it left behind
    return code


def _end_with_input(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1 << 10):
        continue
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    _kill_group(process)


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    if os.name == "nt":  # which has no groups that signals are sent to
        process.send_signal(signum)
        return
    with suppress(ProcessLookupError):  # the group is empty
        os.killpg(process.pid, signum)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if os.name == "nt":
        process.kill()
    else:
        _signal_group(process, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
