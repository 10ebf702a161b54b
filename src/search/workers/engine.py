"""What the driver needs of whatever starts its workers."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Engine", "Line", "Worker", "WorkersFail"]


class WorkersFail(RuntimeError):
    """Workers do not come up at all."""


class Line(Protocol):
    """What the driver needs of a connection; a `multiprocessing.connection.Connection` is one."""

    def fileno(self) -> int:
        """Readable when there is something to receive, the end of the line included."""

    def recv_bytes(self) -> bytes:
        """The next message; EOFError or OSError when the line has ended."""

    def send_bytes(self, message: bytes, /) -> None:
        """OSError when the line has ended."""

    def close(self) -> None:
        """Let go of it."""


class Worker(Protocol):
    """A worker that runs, or did."""

    @property
    def connection(self) -> Line:
        """Ends when the worker does."""

    def end(self) -> str:
        """End it if it still runs, and say how it ended."""


class Engine(Protocol):
    """Starts workers, each in a slot of its own."""

    @property
    def size(self) -> int:
        """The number of slots."""

    def start(self, number: int) -> Worker:
        """A new worker for the slot with this number (from 0)."""

    def check(self) -> None:
        """Whether workers can still be had; called every few seconds, and when one has died.

        Raises:
            WorkersFail: they cannot, and waiting is no use.
        """

    def close(self) -> None:
        """All workers have ended: let go of the rest."""
