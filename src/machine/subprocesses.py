"""Run a command that ends with whoever started it, however that ends.

python -m src.machine.leash COMMAND...

Standard input is the leash: once its other end is closed, as the system does for a process that was
killed with SIGKILL, the command and all that it started are ended. For programs of others, such as
the MLflow server, which do not look after their parent themselves.
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

__all__ = ["end_with_parent", "leashed", "main", "run_leashed"]

# A training saves in it.
_GRACE_SECONDS = 10.0
_LOOK_SECONDS = 0.5


def leashed(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` this way; its standard input has to be a pipe."""
    return [sys.executable, "-m", "src.machine.leash", *command]


def run_leashed(command: Sequence[str]) -> int:
    """Run a command this way and return its exit code; what ends the waiting ends it first."""
    with subprocess.Popen(leashed(command), stdin=subprocess.PIPE) as process:
        try:
            return process.wait()
        finally:  # on an exception, such as Ctrl-C: it is asked to end, and is waited for
            assert process.stdin is not None
            process.stdin.close()


def end_with_parent() -> None:
    """From now on end this process once the one that started it is gone.

    For the processes of further devices, which Lightning starts and which wait for each other for
    ever when the first is killed. To be called early: a parent that has gone already is not missed.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def main() -> int:
    """Run the command; its exit code, negative for a signal."""
    # A terminal's Ctrl-C is for the starter, who then closes the leash.
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: _signal_all(process, signal.SIGTERM))
    threading.Thread(target=_end_with_leash, args=(process,), daemon=True).start()
    code = process.wait()
    _signal_all(process, signal.SIGKILL)  # whatever it has left behind
    return code


def _end_with_leash(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1 << 10):
        continue
    _signal_all(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    _signal_all(process, signal.SIGKILL)


def _signal_all(process: subprocess.Popen[bytes], signum: int) -> None:
    with suppress(ProcessLookupError):  # nobody is left
        os.killpg(process.pid, signum)


if __name__ == "__main__":
    sys.exit(main())
