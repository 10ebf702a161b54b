"""Worker processes on this machine: one a slot for job after job, and one for a single job.

`python -m src.search.workers.local DESCRIPTOR RUNNER [JOB]` is such a process, which ends with the
process at the other end of its connection. See `src.search.jobs` for the messages.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ...config.console import take_any_text
from ...machine.interruption import Interrupted, give_reason
from ...machine.subprocesses import import_environment
from ..jobs import (
    Answer,
    Channel,
    Death,
    Ending,
    Interrupt,
    Job,
    Message,
    NoReports,
    Note,
    Ready,
    Report,
    Runner,
    decode,
    encode,
)
from .slots import GPU_SHARE, THREAD_VARIABLES, Slot

__all__ = ["LocalEngine", "WorkerProcess", "main", "run_in_process"]

_GRACE_SECONDS = 5.0


class LocalEngine:
    """Runs workers as processes of this machine.

    Args:
        slots: one a worker.
        runner_path: `package.module:name` of a callable that makes a `Runner`; imported in the
            worker, after the environment (devices, threads) is set.
        log_dir: where each worker's output goes.
    """

    def __init__(self, slots: Sequence[Slot], runner_path: str, log_dir: Path) -> None:
        self.slots = tuple(slots)
        self.size = len(slots)
        self._runner = runner_path
        self._log_dir = log_dir
        self._workers: dict[int, WorkerProcess] = {}
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
        self._workers[slot] = WorkerProcess(self._runner, log, variables | import_environment())

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
        try:
            for worker in workers:
                worker.end()
        except BaseException:  # a second signal: wait for the rest no longer than it takes
            for worker in workers:
                worker.end()
            raise


class WorkerProcess:
    """A worker process on this machine, and the connection to it.

    Its output is appended to `log`; `variables` are those of its environment beside this process's
    own. It runs in `folder`, or the current one.
    """

    def __init__(
        self, runner_path: str, log: Path, variables: Mapping[str, str], folder: str | None = None
    ) -> None:
        with log.open("ab") as output:
            self.connection, self._process = _start(
                runner_path,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | variables,
                cwd=folder,
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
                connection.send_bytes(encode(Answer(channel.report(step, metrics))))
            case Ending() as ending:
                return ending


def _signal_group(process: subprocess.Popen[bytes], signum: int) -> None:
    with suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signum)


class _Driver:
    """The worker's end of the connection to its driver: a source of jobs, and their `Channel`.

    A thread receives; at the end of the connection it ends this process and its children at once.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._answers: queue.Queue[Answer] = queue.Queue()
        threading.Thread(target=self._receive, daemon=True).start()

    def send(self, message: Message) -> None:
        self._connection.send_bytes(encode(message))

    def note(self, **facts: Any) -> None:
        self.send(Note(facts))

    def report(self, step: int, metrics: Mapping[str, float]) -> str | None:
        self.send(Report(step, dict(metrics)))
        return self._answers.get().stop

    def next_job(self) -> Job:
        job = self._jobs.get()
        give_reason(None)
        # An answer may have come after the job that reported was interrupted.
        while not self._answers.empty():
            self._answers.get()
        return job

    def _receive(self) -> None:
        try:
            while True:
                match decode(self._connection.recv_bytes()):
                    case Job() as job:
                        self._jobs.put(job)
                    case Answer() as answer:
                        self._answers.put(answer)
                    case Interrupt(reason):
                        give_reason(reason)
                        os.kill(os.getpid(), signal.SIGTERM)
        except (EOFError, OSError):
            _end_with_children()


def _end_with_children() -> None:
    """End at once, in the middle of a step: the checkpoint of the last epoch is whole."""
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(1)


def main() -> None:
    """Be a worker, until the driver closes the connection."""
    descriptor, runner_path, *content = sys.argv[1:]
    take_any_text()
    if content:
        job, run = decode(content[0].encode()), _runner(runner_path)
        assert isinstance(job, Job)
        # Set by Lightning for further devices, which take part; the connection is the first one's.
        if int(os.environ.get("LOCAL_RANK", "0")) > 0:
            run(job, NoReports())
        else:
            driver = _Driver(Connection(int(descriptor)))
            driver.send(run(job, driver))
        return
    # A job that is interrupted handles it; between jobs nothing needs to be saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    driver, run = _Driver(Connection(int(descriptor))), _runner(runner_path)
    driver.send(Ready())
    while True:
        job = driver.next_job()
        try:
            ending = run(job, driver)
        except Exception as error:
            traceback.print_exc()
            ending = Ending("failed", reason=f"{type(error).__name__}: {error}")
        sys.stdout.flush()
        driver.send(ending)


def _runner(path: str) -> Runner:
    module, _, name = path.partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)()
    return runner


if __name__ == "__main__":
    main()
