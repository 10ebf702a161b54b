"""Work on many items that must be done by a time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.machine import parallel
from src.machine.parallel import TooSlow, follow_parent, in_order, in_time
from src.machine.subprocesses import import_environment


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that is moved by hand."""
    clock = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(parallel, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))
    return clock


def done(now: SimpleNamespace, items: Iterable[int], each: float = 1.0) -> int:
    """Work that takes so many seconds an item; return how many results there were."""
    count = 0
    for result in in_order(lambda item: 2 * item, items, 1):
        assert result == 2 * count
        count += 1
        now.seconds += each
    return count


@pytest.mark.parametrize(("seconds", "at_most"), [(60, 5), (90, 60)])
def test_what_cannot_be_done_in_time_ends_as_soon_as_that_is_clear(
    now: SimpleNamespace, seconds: float, at_most: int
) -> None:
    began = now.seconds
    limit = in_time(began + seconds, "decoding")
    with pytest.raises(TooSlow, match="decoding would take 99 s") as late, limit:
        done(now, range(100))
    assert late.value.seconds == pytest.approx(99)
    assert 2 <= now.seconds - began <= at_most


def test_what_was_done_before_counts_where_there_are_several_steps(now: SimpleNamespace) -> None:
    def steps() -> None:
        now.seconds += 10
        done(now, range(100))

    limit = in_time(now.seconds + 20, "opening")
    with pytest.raises(TooSlow, match="opening would take 109 s"), limit:
        steps()


def test_what_is_done_in_time_or_has_no_known_length_goes_on(now: SimpleNamespace) -> None:
    with in_time(now.seconds + 100, "decoding"):
        assert done(now, range(100)) == 100
    with in_time(now.seconds - 1, "decoding"):
        assert done(now, iter(range(100))) == 100
        assert done(now, [1][:0]) == 0
    assert done(now, range(100)) == 100, "the limit ends with its block"
    with in_time(None, "decoding"):
        assert done(now, range(100)) == 100


@pytest.mark.parametrize(
    ("seconds", "threaded"),
    [
        ([0.01] * 8, 0),  # a file each, of 0.1 ms
        ([0.1] * 8, 6),
        ([0.1, 0.01, 0.01, 0.1, 0.01, 0.01, 0.01, 0.01], 0),  # late by chance
        ([0.01, 0.01, 0.1, 0.1, 0.01, 0.01, 0.01, 0.1], 4),
    ],
)
def test_many_short_parts_are_left_to_one_thread(
    now: SimpleNamespace, seconds: list[float], threaded: int
) -> None:
    here = threading.get_ident()

    def work(item: int) -> tuple[int, bool]:
        if threading.get_ident() != here:
            return item, True
        now.seconds += seconds[item]
        return item, False

    found = list(in_order(work, range(8), 2, parts=lambda _: 100))
    assert [item for item, _ in found] == [*range(8)]
    assert [other for _, other in found] == [False] * (8 - threaded) + [True] * threaded


def test_items_without_parts_are_shared_by_threads() -> None:
    here = threading.get_ident()
    assert here not in in_order(lambda _: threading.get_ident(), range(8), 2)


def _answers(connection: Connection) -> None:
    follow_parent()
    while True:
        connection.send("here")
        connection.recv()


@pytest.mark.skipif(sys.platform != "linux", reason="this system does not say who signals")
@pytest.mark.parametrize("name", ["TERM", "HUP", "INT"])
def test_signals_of_others_do_not_end_a_process_that_works_for_another(name: str) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_answers, args=(theirs,))
    process.start()
    try:
        assert ours.recv() == "here"
        subprocess.run(["kill", f"-{name}", str(process.pid)], check=True)
        ours.send("still")
        assert ours.poll(60) and ours.recv() == "here"
        for _ in range(60):  # one that comes before the other was looked at is lost in it
            process.terminate()
            process.join(1)
            if process.exitcode is not None:
                break
        assert process.exitcode == 0, "its parent may end it"
    finally:
        process.kill()
        process.join()


def test_a_script_without_a_guard_is_not_run_again_in_new_processes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from src.machine.parallel import new_processes\n"
        "print('begun', flush=True)\n"
        "with ProcessPoolExecutor(1, new_processes()) as pool:\n"
        "    print(pool.submit(len, 'four').result(), __file__ == sys.argv[0], __spec__)\n"
    )
    environment = {**os.environ, **import_environment()}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["begun", "4 True None"], done.stderr
