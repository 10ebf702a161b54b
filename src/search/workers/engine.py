"""Protocols of engines, which start workers, and of their connections."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Connection", "Engine", "Worker", "WorkersFail"]


class WorkersFail(RuntimeError):
    """Workers cannot be started, or are out of reach."""


class Connection(Protocol):
    """A connection to a worker, such as `multiprocessing.connection.Connection`."""

    def fileno(self) -> int:
        """Return a descriptor that is readable with a message to receive, and at the end."""

    def recv_bytes(self) -> bytes:
        """Return the next message, empty if there is none yet; EOFError or OSError at the end."""

    def send_bytes(self, message: bytes, /) -> None:
        """Send a message; OSError after the end."""

    def close(self) -> None:
        """Close this end."""


class Worker(Protocol):
    """A worker, running or ended."""

    @property
    def connection(self) -> Connection:
        """The connection, which ends when the worker does."""

    def end(self) -> str:
        """End it if it still runs, and return how it ended."""


class Engine(Protocol):
    """Starts workers, each in a slot of its own."""

    @property
    def size(self) -> int:
        """The number of slots."""

    def start(self, number: int) -> Worker:
        """Return a new worker for the slot with this number (from 0)."""

    def check(self) -> None:
        """Check that workers can be started; called every few seconds, and when one has died.

        Raises:
            WorkersFail: they cannot, and waiting is no use.
        """

    def close(self) -> None:
        """Release what is held, after all workers have ended."""
