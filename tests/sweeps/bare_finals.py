"""Finals that nobody watches or interrupts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, TypeVar

from src.search.pool import Pool
from src.sweeps.clock import Clock
from src.sweeps.finalists import Finals
from src.sweeps.tasks import SweepJobs

__all__ = ["bare_finals"]


F = TypeVar("F", bound=Finals)


def bare_finals(
    pool: Pool, jobs: SweepJobs, clock: Clock, said: list[str], kind: type[F] = Finals
) -> F:
    display: Any = SimpleNamespace(show=said.append, doing=lambda what: None)
    return kind(
        *(pool, jobs, clock, display),
        check=lambda: None,
        upkeep=lambda: None,
        observers=(),
        interrupted=lambda: False,
    )
