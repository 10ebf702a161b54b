"""Worker processes: one that runs job after job, and one of a single job.

Both end with the process at the other end of their connection. See `src.search.jobs` for the
messages.
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
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from src.config.console import take_any_text
from src.machine.interruption import Interrupted
from src.search.jobs import (
    Answer,
    Channel,
    Ending,
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

__all__ = ["describe_exit", "main", "run_in_process", "serve", "start_process"]

_GRACE_SECONDS = 5.0


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
                    case _:
                        os.kill(os.getpid(), signal.SIGTERM)
        except (EOFError, OSError):
            _end_with_children()


def serve(connection: Connection, runner_path: str) -> None:
    """Run jobs until the driver closes the connection.

    Args:
        connection: to the driver.
        runner_path: `package.module:name` of a callable that makes a `Runner`; imported here, after
            the environment (devices, threads) is set.
    """
    driver = _Driver(connection)
    run = _runner(runner_path)
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


def run_in_process(runner_path: str, job: Job, channel: Channel) -> Ending:
    """Run a job in a process of its own, and pass its messages on.

    The processes that it starts by repeating its own command line, as Lightning does for further
    devices, take part in the job. On `Interrupted` they are asked to stop and get some seconds to
    do so. Devices that wait for each other for ever, because they stopped in different steps, are
    killed; the checkpoint of the last epoch is whole.

    Args:
        runner_path: as in `serve`.
        job: to run.
        channel: of the job.
    """
    ours, process = start_process(runner_path, encode(job).decode())
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
        return Ending("interrupted", reason=f"its process {describe_exit(process.wait())}")
    finally:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        _signal_group(process, signal.SIGKILL)
        process.wait()


def start_process(*arguments: str, **options: Any) -> tuple[Connection, subprocess.Popen[bytes]]:
    """Start this module, out of reach of Ctrl-C; return the connection to it, and its process.

    Args:
        arguments: see `main`, without the descriptor.
        options: of `subprocess.Popen`.
    """
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


def describe_exit(code: int) -> str:
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


def _runner(path: str) -> Runner:
    module, _, name = path.partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)()
    return runner


def _end_with_children() -> None:
    """End at once, in the middle of a step: the checkpoint of the last epoch is whole."""
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(1)


def _run_single(descriptor: int, runner_path: str, content: str) -> None:
    """Run the one job of this process; on a further device, take part in it."""
    job, run = decode(content.encode()), _runner(runner_path)
    assert isinstance(job, Job)
    # Set by Lightning; the connection is that of the first device.
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        run(job, NoReports())
        return
    driver = _Driver(Connection(descriptor))
    driver.send(run(job, driver))


def main() -> None:
    """`python -m src.search.workers.process DESCRIPTOR RUNNER [JOB]`."""
    descriptor, runner_path, *job = sys.argv[1:]
    take_any_text()
    if job:
        _run_single(int(descriptor), runner_path, *job)
        return
    # A job that is interrupted handles it; between jobs nothing needs to be saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(Connection(int(descriptor)), runner_path)


if __name__ == "__main__":
    main()
