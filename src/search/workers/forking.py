"""Workers forked from one process of this machine that has imported their runner for all of them.

`python -m src.search.workers.forking DESCRIPTOR RUNNER` is that process. It imports the runner,
leaves no thread and touches no GPU, and forks a worker for each message on its socket. Once the
driver closes that, or dies, it ends with the last of its workers, or at once while it imports.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import NoReturn

from ...config.console import take_any_text
from ..jobs import Runner
from .slots import Slot
from .worker import factory_of, serve

__all__ = ["Fork", "Forks", "can_fork", "main"]

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 5.0


class Fork:
    """A forked worker, with what is needed of `subprocess.Popen`.

    Args:
        notices: brings its process id, and then its exit code.
        parent: what forks it.
    """

    def __init__(self, notices: Connection, parent: subprocess.Popen[bytes]) -> None:
        self._notices, self._parent, self._pid = notices, parent, 0

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code, negative after a signal, or that of the process that should have
        forked it.

        1 if it is unknown.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        while self._notices.poll(timeout):
            try:
                number = int(self._notices.recv_bytes())
            except EOFError:  # so that the next one is not asked of what is about to end
                code = self._parent.wait(timeout)
                return 1 if self._pid else code
            if self._pid:
                return number
            self._pid = number
        raise subprocess.TimeoutExpired("a worker", timeout or 0.0)

    def kill(self) -> None:
        """Kill the worker, or the process that would fork it."""
        if not self._pid:
            self._parent.kill()
            return
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


class Forks:
    """Starts workers as forks of one process, which begins with the first of them.

    Args:
        runner_path, log, variables: as of `WorkerProcess`, for that process.
    """

    def __init__(self, runner_path: str, log: Path, variables: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __spec__.name, str(theirs.fileno()), runner_path],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                stdin=subprocess.PIPE,  # at whose end it stops importing
                stdout=output,
                stderr=output,
                env=os.environ | variables,
            )

    @property
    def alive(self) -> bool:
        """Whether it can start workers; no more once an import has failed."""
        return self._process.poll() is None

    def start(self, log: Path) -> tuple[Connection, Fork]:
        """Fork a worker, whose output is appended to `log`; return the connection to it."""
        ours, theirs = Pipe()
        notices, sender = Pipe(duplex=False)
        with theirs, sender, log.open("ab") as output, suppress(OSError):  # it may have died
            descriptors = [theirs.fileno(), sender.fileno(), output.fileno()]
            socket.send_fds(self._control, [b"+"], descriptors)
        return ours, Fork(notices, self._process)

    def close(self) -> None:
        """Let the process end once its workers have."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._control.close()

    def end(self) -> str:
        """Wait until it has ended after `close`, not for ever, and return how."""
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return str(code)


def can_fork(slots: Sequence[Slot]) -> bool:
    """Return whether workers of these slots can be forks of one process.

    Not where they have GPUs, whose names a process reads once, as it does numbers of threads.
    """
    alone = len(slots) < 2 or set(slots) != {Slot(None, slots[0].threads)}
    if alone or not hasattr(os, "pidfd_open"):  # as on Linux alone, where forks are safe
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # a kernel of before 2019
        return False
    return True


def main() -> None:
    """Fork workers, until the driver closes the connection."""
    descriptor, runner_path = sys.argv[1:]
    take_any_text()
    imported = threading.Event()
    watch = threading.Thread(target=_end_with_driver, args=(imported,), daemon=True)
    watch.start()
    make = factory_of(runner_path)
    imported.set()
    watch.join()  # a fork has the thread that forks, and nothing of others but their locks
    gc.collect()
    gc.freeze()  # no collection writes to the memory that all share
    with socket.socket(fileno=int(descriptor)) as control:
        _fork_workers(control, make)


def _end_with_driver(imported: threading.Event) -> None:
    while not imported.is_set():
        if wait([0], _POLL_SECONDS):
            os._exit(1)


def _fork_workers(control: socket.socket, make: Callable[[], Runner]) -> None:
    """Fork a worker for each message and report its end, until the driver has gone."""
    running: dict[int, tuple[int, Connection]] = {}  # by what is ready once a worker has ended
    listening = True
    while listening or running:
        for ready in wait([*running, *[control] * listening]):
            if isinstance(ready, int):
                os.close(ready)
                pid, sender = running.pop(ready)
                _notify(sender, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                sender.close()
                continue
            message, descriptors, _, _ = socket.recv_fds(control, 1, 3)
            listening = bool(message)
            if listening:
                connection, notices, output = descriptors
                sender = Connection(notices, readable=False)
                pid = os.fork()
                if not pid:
                    control.close()
                    for foreign in (sender, *(one for _, one in running.values())):
                        foreign.close()
                    _be_worker(make, connection, output)
                os.close(connection)
                os.close(output)
                _notify(sender, pid)
                running[os.pidfd_open(pid)] = pid, sender


def _notify(sender: Connection, number: int) -> None:
    with suppress(OSError):  # the driver has gone
        sender.send_bytes(str(number).encode())


def _be_worker(make: Callable[[], Runner], connection: int, output: int) -> NoReturn:
    """Be a worker in a fresh fork, as `src.search.workers.local` is one in a process of its own."""
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        serve(Connection(connection), make)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(1)


if __name__ == "__main__":
    main()
