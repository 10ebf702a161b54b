"""What comes out of a pool of workers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from src.config.sweep import WorkersSettings
from src.search.jobs import Ending, Note, Report
from src.search.pool import Event, Pool

RUNNER = "tests.search.runners:Tiny"
WORKERS = WorkersSettings(engine="local")
_PATIENCE_SECONDS = 200.0


def ray_or_skip() -> Any:
    """The package; without it, and in a path that it cannot start from, the test is skipped."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if any(letter.isspace() for letter in sys.executable):
        pytest.skip("Ray cannot start Python from a path with a space in it")
    return ray


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def answered(
    pool: Pool, done: Callable[[list[Event]], bool], stop: Callable[[int], str | None] | None = None
) -> list[Event]:
    """Everything until then; reports are answered with going on, or with what `stop` says."""
    heard: list[Event] = []
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not done(heard):
        assert time.monotonic() < deadline, heard
        for event in pool.events(0.1):
            heard.append(event)
            if isinstance(event.message, Report):
                pool.answer(event.slot, None if stop is None else stop(event.message.step))
    return heard


def wait_free(pool: Pool, count: int) -> None:
    assert not answered(pool, lambda _: len(pool.free()) >= count)


def endings(
    pool: Pool, until: int = 1, stop: Callable[[int], str | None] | None = None
) -> dict[int, Ending]:
    """How the last job of each slot ended, once so many have."""
    heard = answered(pool, lambda heard: len(_endings(heard)) >= until, stop)
    return _endings(heard)


def begun(pool: Pool, count: int = 1) -> dict[int, dict[str, Any]]:
    """The first note of each slot's job, once so many jobs have sent one."""
    return _begun(answered(pool, lambda heard: len(_begun(heard)) >= count))


def gone(pid: int) -> bool:
    """Whether a process ended, though perhaps nobody has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _endings(heard: list[Event]) -> dict[int, Ending]:
    return {e.slot: e.message for e in heard if isinstance(e.message, Ending)}


def _begun(heard: list[Event]) -> dict[int, dict[str, Any]]:
    notes = [(e.slot, dict(e.message.facts)) for e in heard if isinstance(e.message, Note)]
    return {slot: facts for slot, facts in notes if "pid" in facts}
