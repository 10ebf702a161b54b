"""The actor of a slot on a Ray cluster: a worker process on its node, and its file transfers."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..jobs import Ending, Note, Ready, decode
from .folders import Incoming, Outgoing, States, states
from .local import WorkerProcess

__all__ = ["Delivery", "RaySlot"]

_CACHE = "BAKEOFF_CACHE"
_POLL_SECONDS = 0.25
# Of a worker's output, what a node that shares no disk sends at most.
_MOST_OUTPUT = 1 << 16


@dataclass(frozen=True)
class Delivery:
    """Messages and files of a worker that shares no disk with the driver.

    Attributes:
        content: a message, or how the worker ended.
        output: of the worker, since the last delivery.
        size, digest: of the parcel with the folders that its job wrote; no bytes for none.
    """

    content: bytes | str
    output: bytes
    size: int = 0
    digest: str = ""


class RaySlot:
    """The actor of a slot: a worker process on its node, begun by the first `receive`.

    The worker runs in the driver's current folder, so that relative paths mean the same, and its
    output goes to `log`. A node that sees the file `sign` shares the disk of the driver. On any
    other one the folders of a job come before the job, and what it has written in them and in those
    that it notes as `written` goes back before its end is known, and is then deleted here.

    Args:
        variables: of the driver's environment; a cache that this node names counts before its own.
    """

    def __init__(
        self,
        *,
        runner_path: str,
        log: str,
        sign: str,
        current: str,
        variables: Mapping[str, str],
        written: Sequence[str],
    ) -> None:
        self._runner = runner_path
        self._log = Path(log)
        self._sign = Path(sign)
        self._current = current
        own = os.environ.get(_CACHE)
        self._variables = {**variables, **({} if own is None else {_CACHE: own})}
        self._written = written
        self._worker: WorkerProcess | None = None
        self._ending = threading.Event()
        self._shares = self._sign.is_file()
        self._logged = 0  # bytes of the log that the driver has
        self._folders: dict[Path, States | None] = {}
        self._incoming: Incoming | None = None
        self._outgoing: Outgoing | None = None

    def send(self, content: bytes) -> None:
        """Send a message to the worker."""
        if self._worker is not None:
            self._worker.send(content)

    def take(self, chunk: bytes, size: int, digest: str) -> None:
        """Take a part of the parcel with the folders of the next job."""
        if self._incoming is None:
            self._incoming = Incoming(size, digest, self._log.parent)
        if self._incoming.add(chunk):
            unpacked = self._incoming.unpack(replace=True)
            self._folders = {folder: states(folder) for folder in unpacked}
            self._incoming.close()
            self._incoming = None

    def receive(self) -> bytes | str | Delivery:
        """Wait for the worker's next message and return it; at its end return how it ended."""
        where = f"on {socket.gethostname()}"
        try:
            worker = self._worker = self._worker or self._begin()
        except OSError as error:
            return f"ended {where}: {error}"
        while not self._ending.is_set():
            if worker.connection.poll(_POLL_SECONDS):
                try:
                    return self._delivery(worker.connection.recv_bytes())
                except (EOFError, OSError):
                    self._ending.set()
                    return self._delivery(f"{worker.end()} {where}")
        return f"{worker.end()} {where}"

    def part(self, offset: int) -> bytes:
        """Return the part of the packed folders that begins with this byte."""
        assert self._outgoing is not None
        return self._outgoing.chunk(offset)

    def delete(self, folders: Sequence[str]) -> None:
        """Delete folders that the driver has by now."""
        assert self._outgoing is not None
        self._outgoing.close()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def end(self) -> None:
        """Let `receive` end the worker."""
        self._ending.set()

    def _begin(self) -> WorkerProcess:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if not self._shares and self._log.is_file():
            self._logged = self._log.stat().st_size
        current = self._current if Path(self._current).is_dir() else str(self._log.parent)
        return WorkerProcess.begin(self._runner, self._log, self._variables, current)

    def _delivery(self, content: bytes | str) -> bytes | str | Delivery:
        """Return what is to be sent with a message, or with how the worker ended."""
        if self._shares:
            return content
        match decode(content) if isinstance(content, bytes) else None:
            case Note(facts):
                noted = (facts[name] for name in self._written if facts.get(name) is not None)
                for folder in noted:
                    self._folders.setdefault(Path(folder), None)
            case Ending() | None:
                folders = {path: seen for path, seen in self._folders.items() if path.is_dir()}
                self._folders = {}
                output = self._output()
                if not folders:
                    return Delivery(content, output)
                self._outgoing = Outgoing.pack(folders, self._log.parent)
                return Delivery(content, output, self._outgoing.size, self._outgoing.digest)
            case Ready():
                return Delivery(content, self._output())
        return content

    def _output(self) -> bytes:
        """Return what the worker has written since the last call, the end of it if it is long."""
        with self._log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._logged, size - _MOST_OUTPUT))
            self._logged = size
            return log.read()
