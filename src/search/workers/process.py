"""A warm worker: one process that runs job after job, and dies with its driver.

Messages are JSON, one a `send_bytes`. To the worker: `{"do": "run", "job": {...}}`,
`{"do": "go_on", "stop": reason or null}` in answer to a report, `{"do": "interrupt"}`. From it:
`ready`, `noted` (facts), `reported` (epoch, metrics), `ended` (see `Ending`). A line that is not up
yet says `waiting` in its stead.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Protocol

from src.config.console import take_any_text

__all__ = ["Ending", "Job", "Runner", "Say", "Voice", "listen", "main", "serve"]

Job = Mapping[str, Any]
_COMPLETE, _PRUNED, _FAILED, _INTERRUPTED = "complete", "pruned", "failed", "interrupted"


@dataclass(frozen=True)
class Ending:
    """How a job ended.

    Attributes:
        state: "complete", "pruned", "failed", "interrupted" (it can go on later) or "starved" (so
            can it, once there is what every other job would lack as well, such as room on a disk).
        result: plain values.
        reason: why it is not complete.
        again: facts to note of the trial with which another attempt may succeed; None for no
            attempt.
    """

    state: str
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    again: Mapping[str, Any] | None = None


class Say(Protocol):
    """A job's way to its driver."""

    def note(self, **facts: Any) -> None:
        """Plain values worth keeping, whatever happens to this process."""

    def report(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        """After an epoch, counted from 1: why to stop, or None to go on."""


Runner = Callable[[Job, Say], Ending]


class Voice:
    """`Say` over a connection."""

    def __init__(self, connection: Connection, answers: queue.Queue[dict[str, Any]]) -> None:
        self._connection = connection
        self._answers = answers

    def note(self, **facts: Any) -> None:
        self.say("noted", facts=facts)

    def report(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        self.say("reported", epoch=epoch, metrics=dict(metrics))
        stop = self._answers.get()["stop"]
        return None if stop is None else str(stop)

    def say(self, what: str, **fields: Any) -> None:
        self._connection.send_bytes(json.dumps({"said": what, **fields}).encode())


def serve(connection: Connection, runner_path: str) -> None:
    """Run jobs until the driver closes the connection.

    Args:
        connection: to the driver.
        runner_path: `package.module:name` of a callable that makes a `Runner`; imported here, after
            the environment (devices, threads) is set.
    """
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    answers: queue.Queue[dict[str, Any]] = queue.Queue()
    listen(connection, jobs, answers)
    voice = Voice(connection, answers)
    module, _, name = runner_path.partition(":")
    run: Runner = getattr(importlib.import_module(module), name)()
    voice.say("ready", pid=os.getpid())
    while True:
        job = jobs.get()["job"]
        while not answers.empty():  # to a report whose job was interrupted before it heard
            answers.get()
        try:
            ending = run(job, voice)
        except Exception as error:
            traceback.print_exc()
            ending = Ending(_FAILED, reason=f"{type(error).__name__}: {error}")
        sys.stdout.flush()
        voice.say("ended", **asdict(ending))


def listen(
    connection: Connection,
    jobs: queue.Queue[dict[str, Any]],
    answers: queue.Queue[dict[str, Any]],
) -> None:
    """Sort what the driver says, in a thread; without a driver there is nothing to live for."""
    threading.Thread(target=_sort, args=(connection, jobs, answers), daemon=True).start()


def _sort(
    connection: Connection,
    jobs: queue.Queue[dict[str, Any]],
    answers: queue.Queue[dict[str, Any]],
) -> None:
    try:
        while True:
            message = json.loads(connection.recv_bytes())
            if message["do"] == "run":
                jobs.put(message)
            elif message["do"] == "go_on":
                answers.put(message)
            else:
                os.kill(os.getpid(), signal.SIGTERM)
    except (EOFError, OSError):
        _end_with_children()


def _end_with_children() -> None:
    """At once: a training in the middle of a step asks nobody. Its checkpoint is whole anyway."""
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    os._exit(1)


def main() -> None:
    """`python -m src.search.workers.process DESCRIPTOR RUNNER`."""
    # A job that is interrupted handles it; between jobs nothing needs to be saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    take_any_text()
    serve(Connection(int(sys.argv[1])), sys.argv[2])


if __name__ == "__main__":
    main()
