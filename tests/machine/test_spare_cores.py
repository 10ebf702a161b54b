from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial

import numpy as np  # noqa: F401 - brings such a library
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from src.machine.spare_cores import SpareCores

_LEAST = 60


def _process(item: int) -> tuple[int, int]:
    return item, os.getpid()


def _place(what: str, place: int, count: int) -> tuple[str, int, int, bool]:
    time.sleep(0.2)  # so that the other one takes the next
    return what, place, count, "wave" in sys.modules


def _end_others(parent: int, item: int) -> int:
    if os.getpid() != parent and item == _LEAST:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.parametrize(("items", "others"), [(_LEAST - 1, 0.0), (_LEAST, 0.9)])
def test_few_items_and_cores_that_others_use_are_left_to_this_process(
    items: int, others: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_cores(monkeypatch, others)
    with SpareCores("wave", _LEAST) as spare:
        assert [*spare.map(_process, range(items))] == [(i, os.getpid()) for i in range(items)]
        assert spare.share(_place, "all") == []


@pytest.mark.parametrize("others_have_threads", [False, True])
def test_many_items_are_done_in_order_by_other_processes_and_then_share_what_follows(
    others_have_threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_cores(monkeypatch, 0.1)
    loaded = ("sys",) if others_have_threads else ()  # then they are no forks
    monkeypatch.setattr("src.machine.spare_cores._WITH_THREADS", loaded)
    with SpareCores("wave", _LEAST) as spare:
        assert spare.share(_place, "all") == []  # before they are there
        found = [*spare.map(_process, range(3 * _LEAST))]
        assert [item for item, _ in found] == [*range(3 * _LEAST)]
        assert os.getpid() not in {process for _, process in found}
        shares = [one.result() for one in spare.share(_place, "all")]
        assert [share[:3] for share in shares] == [("all", 0, 2), ("all", 1, 2)]
        # All have, unless one was so slow to begin that another one took its turn.
        assert any(imported for *_, imported in shares)


def test_what_ended_processes_have_not_done_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    _two_cores(monkeypatch, 0.1)
    with SpareCores("wave", _LEAST) as spare:
        found = spare.map(partial(_end_others, os.getpid()), range(2 * _LEAST))
        assert [*found] == [*range(2 * _LEAST)]
        assert spare.share(_place, "all") == []


def _two_cores(monkeypatch: pytest.MonkeyPatch, others: float) -> None:
    def leave(load: object, *_: object) -> None:
        load.others = others  # type: ignore[attr-defined]

    monkeypatch.setattr("src.machine.cpu_load.available_cores", lambda: 2)
    monkeypatch.setattr("src.machine.spare_cores.CpuLoad.__exit__", leave)


def test_libraries_have_one_thread_beside_the_processes_and_as_many_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def threads() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    _two_cores(monkeypatch, 0.1)
    with threadpool_limits(2):
        before = threads()
        with SpareCores("wave", _LEAST) as spare:
            list(spare.map(_process, range(_LEAST)))
            assert threads() == {1}
        assert threads() == before == {2}
