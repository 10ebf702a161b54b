"""What the driver needs of whatever starts its workers."""

from __future__ import annotations

from multiprocessing.connection import Connection
from typing import Protocol

__all__ = ["Engine", "Worker"]


class Worker(Protocol):
    """A worker that runs, or did.

    Attributes:
        connection: ends when the worker does.
    """

    connection: Connection

    def end(self) -> str:
        """End it if it still runs, and say how it ended."""


class Engine(Protocol):
    """Starts workers, each in a slot of its own."""

    @property
    def size(self) -> int:
        """The number of slots."""

    def start(self, number: int) -> Worker:
        """A new worker for the slot with this number (from 0)."""

    def close(self) -> None:
        """All workers have ended: let go of the rest."""
