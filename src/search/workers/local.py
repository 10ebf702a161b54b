"""Worker processes on this machine: one a slot for job after job, and one for a single job.

`python -m src.search.workers.local DESCRIPTOR RUNNER [JOB]` is such a process, which ends with the
process at the other end of its connection. See `src.search.jobs` for the messages.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

from ...config.console import take_any_text
from ...machine.interruption import Interrupted
from ...machine.subprocesses import import_environment
from ..jobs import (
    Channel,
    Death,
    Ending,
    Job,
    Message,
    NoReports,
    Note,
    Reply,
    Report,
    Runner,
    decode,
    encode,
)
from .forking import Fork, Forks, can_fork
from .slots import GPU_SHARE, THREAD_VARIABLES, Slot
from .worker import DriverChannel, factory_of, serve

__all__ = ["LocalEngine", "WorkerProcess", "main", "run_in_process"]

_GRACE_SECONDS = 5.0


class LocalEngine:
    """Runs workers as processes of this machine.

    Several without GPUs are forked from one process, so that what they run is imported once.

    Args:
        slots: one a worker.
        runner_path: of a callable that makes a `Runner`, as `factory_of` has it; imported in the
            worker, after the environment (devices, threads) is set.
        log_dir: where each worker's output goes.
    """

    def __init__(self, slots: Sequence[Slot], runner_path: str, log_dir: Path) -> None:
        self.slots = tuple(slots)
        self.size = len(slots)
        self._runner = runner_path
        self._log_dir = log_dir
        self._workers: dict[int, WorkerProcess] = {}
        self._forks: Forks | None = None
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, slot: int) -> None:
        devices = self.slots[slot].devices
        variables = dict.fromkeys(THREAD_VARIABLES, str(self.slots[slot].threads))
        if devices is not None:
            variables |= {
                "CUDA_VISIBLE_DEVICES": devices,
                GPU_SHARE: str(self.slots[slot].gpu_share),
            }
        log = self._log_dir / f"worker-{slot}.log"
        variables |= import_environment()
        if can_fork(self.slots):
            if self._forks is None or not self._forks.alive:
                self._forks = Forks(self._runner, log, variables)
            self._workers[slot] = WorkerProcess(*self._forks.start(log))
        else:
            self._workers[slot] = WorkerProcess.begin(self._runner, log, variables)

    def send(self, slot: int, message: Message) -> None:
        self._workers[slot].send(encode(message))

    def messages(self, seconds: float) -> Iterator[tuple[int, Message | Death]]:
        slots = {worker.connection: slot for slot, worker in self._workers.items()}
        for connection in wait(list(slots), seconds):
            assert isinstance(connection, Connection)
            slot = slots[connection]
            try:
                content = connection.recv_bytes()
            except (EOFError, OSError):
                yield slot, self.stop(slot)
            else:
                yield slot, decode(content)

    def stop(self, slot: int) -> Death:
        return Death(self._workers.pop(slot).end())

    def close(self) -> None:
        workers = list(self._workers.values())
        for worker in workers:  # they end by this, all at the same time
            worker.connection.close()
        ends = [worker.end for worker in workers]
        if self._forks is not None:
            self._forks.close()
            ends.append(self._forks.end)
        try:
            for end in ends:
                end()
        except BaseException:  # a second signal: wait for the rest no longer than it takes
            for end in ends:
                end()
            raise


class WorkerProcess:
    """A worker process on this machine, and the connection to it."""

    def __init__(self, connection: Connection, process: subprocess.Popen[bytes] | Fork) -> None:
        self.connection, self._process = connection, process

    @classmethod
    def begin(
        cls, runner_path: str, log: Path, variables: Mapping[str, str], folder: str | None = None
    ) -> Self:
        """Begin one in `folder`, or the current one.

        Its output is appended to `log`; `variables` are those of its environment beside this
        process's own.
        """
        with log.open("ab") as output:
            return cls(
                *_start(
                    runner_path,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=os.environ | variables,
                    cwd=folder,
                )
            )

    def send(self, content: bytes) -> None:
        """Send an encoded message; it is lost where the process has died."""
        with suppress(OSError):
            self.connection.send_bytes(content)

    def end(self) -> str:
        """End it if it still runs, and return how it ended."""
        self.connection.close()  # at which it ends by itself
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            code = self._kill()
        except BaseException:  # a signal ends the waiting, and not without the process
            self._kill()
            raise
        return _describe_exit(code) + (" (out of memory?)" if code == -9 else "")

    def _kill(self) -> int:
        self._process.kill()
        return self._process.wait()


def run_in_process(runner_path: str, job: Job, channel: Channel) -> Ending:
    """Run a job of a `Runner` in a process of its own, and pass its messages on.

    The processes that it starts by repeating its own command line, as Lightning does for further
    devices, take part in the job. On `Interrupted` they are asked to stop and get some seconds to
    do so. Devices that wait for each other for ever, because they stopped in different steps, are
    killed; the checkpoint of the last epoch is whole.
    """
    ours, process = _start(runner_path, encode(job).decode())
    try:
        with ours:
            try:
                return _relay(ours, channel)
            except Interrupted:
                _signal_group(process, signal.SIGTERM)
                return _relay(ours, channel, time.monotonic() + _GRACE_SECONDS)
    except TimeoutError:
        return Ending("interrupted", reason="stopped")
    except (EOFError, OSError):
        # As with a worker that dies, the job may go on from its checkpoint.
        return Ending("interrupted", reason=f"its process {_describe_exit(process.wait())}")
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _start(*arguments: str, **options: Any) -> tuple[Connection, subprocess.Popen[bytes]]:
    """Start this module, out of reach of Ctrl-C; return the connection to it, and its process."""
    ours, theirs = Pipe()
    with theirs:
        descriptor = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(descriptor), *arguments],
            pass_fds=[descriptor],
            start_new_session=True,
            **options,
        )
    return ours, process


def _describe_exit(code: int) -> str:
    """Return how a process ended, by its exit code, which is negative after a signal."""
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _relay(connection: Connection, channel: Channel, until: float | None = None) -> Ending:
    while True:
        if until is not None and not connection.poll(max(0.0, until - time.monotonic())):
            raise TimeoutError
        match decode(connection.recv_bytes()):
            case Note(facts):
                channel.note(**facts)
            case Report(step, metrics):
                connection.send_bytes(encode(Reply(channel.report(step, metrics))))
            case Ending() as ending:
                return ending


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signum)


def main() -> None:
    """Be a worker, until the driver closes the connection."""
    descriptor, runner_path, *content = sys.argv[1:]
    take_any_text()
    if not content:
        serve(Connection(int(descriptor)), partial(_runner, runner_path))
    job, run = decode(content[0].encode()), _runner(runner_path)
    assert isinstance(job, Job)
    # Set by Lightning for further devices, which take part; the connection is the first one's.
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        run(job, NoReports())
    else:
        driver = DriverChannel(Connection(int(descriptor)))
        driver.send(run(job, driver))


def _runner(path: str) -> Runner:
    return factory_of(path)()


if __name__ == "__main__":
    main()
