from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np  # noqa: F401 - brings such a library
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from src.machine.imports import allow_module
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


@pytest.mark.skipif(sys.platform != "linux", reason="counts files as Linux lists them")
@pytest.mark.parametrize("forks", [True, False])
@pytest.mark.slow
def test_where_the_system_gives_no_processes_all_is_done_here(
    forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are what it has too few of, for none of the processes or for the second one."""
    _two_cores(monkeypatch, 0.1)
    monkeypatch.setattr("src.machine.spare_cores._WITH_THREADS", () if forks else ("sys",))
    alone = 0
    for free in range(0, 30, 3):
        with SpareCores("wave", _LEAST) as spare:
            with _free_files(free):
                found = [*spare.map(_process, range(_LEAST))]
                shares = spare.share(_place, "all")
            assert [item for item, _ in found] == [*range(_LEAST)]
            alone += {process for _, process in found} == {os.getpid()} and not shares
        assert multiprocessing.active_children() == []
    assert alone > 3


@pytest.mark.skipif(sys.platform != "linux", reason="counts files as Linux lists them")
@pytest.mark.parametrize("forks", [True, False])
def test_what_another_thread_began_meanwhile_goes_on_where_there_are_too_few_files(
    forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_cores(monkeypatch, 0.1)
    monkeypatch.setattr("src.machine.spare_cores._WITH_THREADS", () if forks else ("sys",))
    gave_up = 0
    for free in (0, 1, 2, 3):
        with SpareCores("wave", _LEAST) as spare:
            if not spare._start():
                continue
            another = multiprocessing.Process(target=time.sleep, args=(600,), daemon=True)
            another.start()
            with _free_files(free):
                assert [item for item, _ in spare.map(_process, range(_LEAST))] == [*range(_LEAST)]
            gave_up += spare._pool is None
        assert another.is_alive()
        another.terminate()
        another.join()
    assert gave_up


@contextmanager
def _free_files(count: int) -> Iterator[None]:
    """Let this process open so many files more."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())[:-1]
    holes = max(opened) + 1 - len(opened)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(opened) + 1 + max(0, count - holes), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(sys.platform != "linux", reason="no forks elsewhere")
def test_code_of_plugins_which_may_have_threads_is_not_forked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _two_cores(monkeypatch, 0.1)
    monkeypatch.setattr("src.machine.spare_cores._WITH_THREADS", ())
    monkeypatch.setattr("src.machine.imports._allowed", set())
    for module, forked in [(None, True), ("my_networks", False)]:
        if module is not None:
            allow_module(module)
        with SpareCores("wave", _LEAST) as spare:
            assert set(spare.map(_is_fork, range(_LEAST))) == {forked}


def _is_fork(item: int) -> bool:
    return multiprocessing.get_start_method(allow_none=True) != "spawn"


def _two_cores(monkeypatch: pytest.MonkeyPatch, others: float) -> None:
    def leave(load: object, *_: object) -> None:
        load.others = others  # type: ignore[attr-defined]

    monkeypatch.setattr("src.machine.cpu_load.available_cores", lambda: 2)
    monkeypatch.setattr("src.machine.spare_cores.CpuLoad.__exit__", leave)


def _threads(item: int = 0) -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


@pytest.mark.parametrize("forks", [True, False])
def test_libraries_have_one_thread_beside_and_in_the_processes_and_as_many_as_before_afterwards(
    forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _two_cores(monkeypatch, 0.1)
    monkeypatch.setattr("src.machine.spare_cores._WITH_THREADS", () if forks else ("sys",))
    with threadpool_limits(2):
        before = _threads()
        with SpareCores("wave", _LEAST) as spare:
            assert [*spare.map(_threads, range(_LEAST))] == [{1}] * _LEAST
            assert _threads() == {1}
        assert _threads() == before == {2}
