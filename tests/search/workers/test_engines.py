"""What a pool of workers does, whichever engine runs them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.search import loop
from src.search.jobs import Ending, Job, Note, Report, WorkersFail
from src.search.loop import run_single
from src.search.pool import Pool
from tests.search.workers.pools import (
    RUNNER,
    answered,
    begun,
    endings,
    gone,
    wait_free,
    wait_until,
)


@pytest.fixture
def pool(make_pool: Callable[[str], Pool]) -> Pool:
    """With one worker, which is ready, and room for another."""
    pool = make_pool(RUNNER)
    pool.start(1)
    wait_free(pool, 1)
    return pool


def test_what_a_job_sends_comes_in_order_and_the_worker_stays_warm(pool: Pool) -> None:
    pids = set()
    for number in range(3):
        job = Job({"number": number, "value": 0.5}, epochs=2)
        pool.give(0, job)
        assert pool.busy == [0] and pool.free() == []
        heard = answered(pool, lambda heard: bool(heard) and isinstance(heard[-1].message, Ending))
        assert all(event.job == job and event.slot == 0 for event in heard)
        note, *middle, ending = (event.message for event in heard)
        assert isinstance(note, Note)
        pids.add(note.facts["pid"])
        assert middle == [
            Note({"run_dir": "0"}),
            Report(1, {"val/accuracy": 0.5, "other": 1.0}),
            Note({"run_dir": "1"}),
            Report(2, {"val/accuracy": 1.0, "other": 1.0}),
        ]
        assert ending == Ending("complete", {"val/accuracy": 0.5, "other": 1.0})
        assert heard[-1].seconds >= heard[0].seconds > 0
    assert len(pids) == 1


def test_a_job_stops_where_it_is_told_to_and_a_fault_is_a_reason(pool: Pool) -> None:
    pool.give(0, Job({"value": 0.5}, epochs=9))
    ended = endings(pool, stop=lambda step: "behind" if step == 3 else None)[0]
    assert (ended.state, ended.reason) == ("pruned", "behind")
    pool.give(0, Job({"do": "fail"}))
    assert endings(pool)[0] == Ending("failed", reason="RuntimeError: no such thing")
    pool.give(0, Job({"do": "see"}))  # it lives
    endings(pool)


def test_an_answer_that_comes_too_late_is_not_the_next_jobs(pool: Pool) -> None:
    pool.give(0, Job({"value": 0.5}, epochs=9))
    (begin,) = begun(pool).values()

    def stop(step: int) -> str:
        os.kill(begin["pid"], signal.SIGTERM)  # it waits for an answer, and is asked to stop
        time.sleep(0.5)
        return "behind"

    assert endings(pool, stop=stop)[0].state == "interrupted"
    pool.give(0, Job({"value": 0.5}, epochs=3))
    assert endings(pool)[0].state == "complete"


def test_a_busy_worker_that_is_killed_costs_its_job_alone(pool: Pool) -> None:
    pool.start()
    wait_free(pool, 2)
    pool.give(0, Job({"value": 0.5, "die": 2}, epochs=3))
    pool.give(1, Job({"value": 0.5, "seconds": 0.2}, epochs=3))
    ends = endings(pool, until=2)
    assert ends[0].state == "lost"
    assert str(ends[0].reason).startswith("its worker ended by signal 9 (out of memory?)")
    assert ends[1].state == "complete"
    wait_free(pool, 2)  # another worker has taken the place
    pool.give(0, Job({"do": "see"}))
    endings(pool)


def test_an_idle_worker_that_is_killed_is_replaced_without_a_word(pool: Pool) -> None:
    pool.start(1)
    for _ in range(4):  # more often than a worker may die before it is ready
        wait_free(pool, 1)
        pool.give(0, Job({"value": 0.0}, epochs=1))
        (begin,) = begun(pool).values()
        endings(pool)
        os.kill(begin["pid"], signal.SIGKILL)
        assert not answered(pool, lambda _: not pool.free())


def test_all_workers_are_waited_for_but_not_those_that_do_not_come(pool: Pool) -> None:
    began = time.monotonic()
    pool.gather(0.5, lambda: None)
    assert pool.free() == [0] and time.monotonic() - began >= 0.5
    pool.start()
    pool.gather(60, lambda: None)
    assert pool.free() == [0, 1]


def test_a_job_alone_is_given_once_more_if_its_worker_dies(pool: Pool, tmp_path: Path) -> None:
    marker = str(tmp_path / "died")
    ending = run_single(pool, Job({"do": "die_once", "marker": marker}), lambda: None)
    assert ending.state == "complete"
    ending = run_single(pool, Job({"value": 0.5, "die": 1}), lambda: None)
    assert ending.state == "lost" and "signal 9" in str(ending.reason)
    assert run_single(pool, Job({"do": "see"}), lambda: None).state == "complete"

    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_single(pool, Job({"do": "see"}), check)


def test_a_job_alone_says_what_it_does(pool: Pool) -> None:
    said: list[str] = []
    run_single(pool, Job({"do": "say"}), lambda: None, doing=said.append)
    assert said == ["describing pictures"]


@pytest.mark.parametrize("kind", [{}, {"frail": True}])
def test_a_job_alone_is_stopped_once_its_time_is_over(
    pool: Pool, kind: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_LATE_SECONDS", 0.1)
    began = time.monotonic()
    job = Job({"do": "sleep", "seconds": 60.0, "deaf": False, **kind})
    ending = run_single(pool, job, lambda: None, seconds=0.1)
    assert (ending.state, ending.reason) == ("pruned", "the time was over")
    assert time.monotonic() - began < 30
    assert pool.free() == [0], "its worker lives"
    assert run_single(pool, Job({"do": "see"}), lambda: None, seconds=60).state == "complete"


@pytest.mark.parametrize("runner", ["tests.search.runners:Broken", "tests.search.nowhere:Tiny"])
def test_workers_that_cannot_start_end_the_wait(
    make_pool: Callable[[str], Pool], tmp_path: Path, runner: str
) -> None:
    pool = make_pool(runner)
    pool.start(1)
    with pytest.raises(WorkersFail, match=r"the worker of slot 0 ended with exit code 1 .*before"):
        wait_free(pool, 1)
    log = (tmp_path / "worker-0.log").read_text()
    assert log.count("Traceback") == 3, "three attempts, each with its reason"


def test_an_interrupted_job_is_told_the_reason_if_there_is_one(pool: Pool) -> None:
    pool.start(1)
    wait_free(pool, 1)
    pool.give(0, Job({"do": "listen"}))
    begun(pool, 1)
    pool.interrupt([0], "no time is left")
    assert endings(pool)[0].reason == "no time is left"
    # The next one is signalled by somebody else.
    pool.give(0, Job({"do": "listen"}))
    os.kill(begun(pool, 1)[0]["pid"], signal.SIGTERM)
    assert endings(pool)[0].reason == "stopped by SIGTERM"


def test_a_job_that_saves_since_its_process_was_signalled_is_not_signalled_again(
    pool: Pool,
) -> None:
    """As where systemd ends a driver and each of its workers."""
    for _ in range(2):
        wait_free(pool, 1)
        pool.give(0, Job({"do": "save"}))
        os.kill(begun(pool)[0]["pid"], signal.SIGTERM)
        assert answered(pool, lambda heard: any(e.message == Note({"saving": True}) for e in heard))
        pool.interrupt([0])
        assert endings(pool)[0].reason == "saved"
    wait_free(pool, 1)
    pool.give(0, Job({"do": "save"}))
    begun(pool)
    pool.interrupt([0])
    assert endings(pool)[0].reason == "saved"


def test_jobs_are_interrupted_and_a_closed_pool_leaves_nobody(pool: Pool) -> None:
    pool.start()
    wait_free(pool, 2)
    pool.give(0, Job({"value": 0.5, "seconds": 600}))
    pool.give(1, Job({"do": "hang"}))
    heard = begun(pool, 2)
    pids = [heard[0]["pid"], heard[1]["pid"], heard[1]["child"]]
    pool.interrupt(pool.busy)
    assert endings(pool) == {0: Ending("interrupted", reason="stopped")}
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 8
    wait_until(lambda: all(gone(pid) for pid in pids), 10, "they live on")


def test_a_worker_that_does_not_listen_is_ended_and_replaced(pool: Pool) -> None:
    pool.give(0, Job({"do": "hang"}))
    begin = begun(pool)[0]
    (event,) = pool.abandon(0)
    assert isinstance(event.message, Ending) and event.message.state == "lost"
    wait_until(lambda: gone(begin["pid"]) and gone(begin["child"]), 10, "they live on")
    wait_free(pool, 1)
