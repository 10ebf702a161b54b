"""The worker's end of its connection, which receives jobs and sends their messages."""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from ...config.plugins import fault_text
from ...machine.interruption import give_reason, signals_so_far
from ..jobs import (
    Ending,
    Interrupt,
    Job,
    Message,
    Note,
    Ready,
    Reply,
    Report,
    Runner,
    decode,
    encode,
)

__all__ = ["DriverChannel", "factory_of", "serve"]


class DriverChannel:
    """The worker's end of the connection to its driver: a source of jobs, and their `Channel`.

    A thread receives; at the end of the connection it ends this process and its children at once.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._replies: queue.Queue[Reply] = queue.Queue()
        self._signals_before = signals_so_far()
        threading.Thread(target=self._receive, daemon=True).start()

    def send(self, message: Message) -> None:
        try:
            self._connection.send_bytes(encode(message))
        except ConnectionError:  # the driver has gone, which `_receive` is about to see
            _end_with_children()

    def note(self, **facts: Any) -> None:
        self.send(Note(facts))

    def report(self, step: int, metrics: Mapping[str, float]) -> str | None:
        self.send(Report(step, dict(metrics)))
        return self._replies.get().stop

    def next_job(self) -> Job:
        job = self._jobs.get()
        give_reason(None)
        self._signals_before = signals_so_far()
        # A reply may have come after the job that reported was interrupted.
        while not self._replies.empty():
            self._replies.get()
        return job

    def _receive(self) -> None:
        try:
            while True:
                match decode(self._connection.recv_bytes()):
                    case Job() as job:
                        self._jobs.put(job)
                    case Reply() as reply:
                        self._replies.put(reply)
                    case Interrupt(reason):
                        give_reason(reason)
                        # A second signal would end a job that saves because of a first one, as of
                        # systemd, which signals every process.
                        if signals_so_far() == self._signals_before:
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


def serve(connection: Connection, make: Callable[[], Runner]) -> NoReturn:
    """Be a worker, until the driver closes the connection, with a runner that `make` returns."""
    # A job that is interrupted handles it; between jobs nothing needs to be saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    driver, run = DriverChannel(connection), make()
    driver.send(Ready())
    while True:
        job = driver.next_job()
        try:
            ending = run(job, driver)
        except Exception as error:
            traceback.print_exc()
            ending = Ending("failed", reason=fault_text(error))
        sys.stdout.flush()
        driver.send(ending)


def factory_of(path: str) -> Callable[[], Runner]:
    """Import what makes a runner, and return it.

    Args:
        path: `package.module:name`; further modules, which are imported first, stand before it, a
            comma after each.
    """
    modules, _, name = path.partition(":")
    *_, module = map(importlib.import_module, modules.split(","))
    factory: Callable[[], Runner] = getattr(module, name)
    return factory
