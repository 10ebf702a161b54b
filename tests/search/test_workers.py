"""Real worker processes: their environment, their messages, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.search.jobs import Ending, Job, Note, Report
from src.search.loop import run_single
from src.search.pool import Event, Pool, WorkersFail
from src.search.workers.local import LocalEngine, Slot, slots

ROOT = Path(__file__).resolve().parents[2]
RUNNER = "tests.search.runners:Tiny"
TWO = [Slot("3,GPU-abc", 2), Slot(None, 1)]
# A driver with a busy and an idle worker, which tells their process ids and then waits.
_DRIVER = """
import sys, time
from pathlib import Path
from src.search.jobs import Job, Note
from src.search.pool import Pool
from src.search.workers.local import LocalEngine, Slot

pool = Pool(LocalEngine([Slot(None, 1)] * 2, sys.argv[1], Path(sys.argv[2])))
pool.start()
while len(pool.free()) < 2:
    list(pool.events(0.1))
pool.give(0, Job({"do": "hang"}))
while True:
    for event in pool.events(0.1):
        if isinstance(event.message, Note):
            print(event.message.facts["pid"], event.message.facts["child"], flush=True)
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(LocalEngine(TWO, RUNNER, tmp_path / "logs"))
    yield pool
    pool.close()


def wait_free(pool: Pool, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(pool.free()) < count:
        assert not list(pool.events(0.1))
        assert time.monotonic() < deadline, "the workers do not come up"


def hear(pool: Pool, until: int = 1) -> list[Event]:
    """Everything until so many jobs have ended; reports are answered with going on."""
    heard: list[Event] = []
    deadline = time.monotonic() + 60
    while len(endings(heard)) < until:
        for event in pool.events(0.1):
            heard.append(event)
            if isinstance(event.message, Report):
                pool.answer(event.slot, None)
        assert time.monotonic() < deadline, "the jobs do not end"
    return heard


def endings(heard: list[Event]) -> dict[int, Ending]:
    """How the last job of each slot ended."""
    return {e.slot: e.message for e in heard if isinstance(e.message, Ending)}


def gone(pid: int) -> bool:
    """Whether a process ended, though perhaps nobody has asked how."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_worker_sees_its_devices_and_threads_before_it_imports_anything(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    pool.start()
    wait_free(pool, 2)
    for slot in (0, 1):
        pool.give(slot, Job({"do": "see"}))
    seen = {slot: e.result for slot, e in endings(hear(pool, until=2)).items()}
    assert seen[0]["seen"] == {"CUDA_VISIBLE_DEVICES": "3,GPU-abc", "OMP_NUM_THREADS": "2"}
    # Without devices of its own a worker sees what the driver sees.
    assert seen[1]["seen"] == {"CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "1"}
    assert seen[0]["heavy"] == seen[1]["heavy"] == []


def test_what_a_job_says_comes_in_order_and_the_worker_stays_warm(pool: Pool) -> None:
    pool.start(1)
    wait_free(pool, 1)
    pids = set()
    for number in range(3):
        job = Job({"number": number, "value": 0.5}, epochs=2)
        pool.give(0, job)
        assert pool.busy == [0] and pool.free() == []
        heard = hear(pool)
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
    pool.start(1)
    wait_free(pool, 1)
    pool.give(0, Job({"value": 0.5}, epochs=9))
    ended = None
    while ended is None:
        for event in pool.events(0.1):
            match event.message:
                case Report(step=step):
                    pool.answer(0, "behind" if step == 3 else None)
                case Ending() as ended:
                    pass
    assert (ended.state, ended.reason) == ("pruned", "behind")
    pool.give(0, Job({"do": "fail"}))
    assert endings(hear(pool))[0] == Ending("failed", reason="RuntimeError: no such thing")
    pool.give(0, Job({"do": "see"}))  # it lives
    hear(pool)


def test_an_answer_that_comes_too_late_is_not_the_next_jobs(pool: Pool) -> None:
    pool.start(1)
    wait_free(pool, 1)
    pool.give(0, Job({"value": 0.5}, epochs=9))
    pid, ended = 0, None
    while ended is None:
        for event in pool.events(0.1):
            match event.message:
                case Note(facts=facts):
                    pid = facts.get("pid", pid)
                case Report():
                    os.kill(pid, signal.SIGTERM)  # it waits for an answer, and is asked to stop
                    time.sleep(0.5)
                    pool.answer(0, "behind")
                case Ending() as ended:
                    pass
    assert ended.state == "interrupted"
    pool.give(0, Job({"value": 0.5}, epochs=3))
    assert endings(hear(pool))[0].state == "complete"


def test_a_busy_worker_that_is_killed_costs_its_job_alone(pool: Pool) -> None:
    pool.start()
    wait_free(pool, 2)
    pool.give(0, Job({"value": 0.5, "die": 2}, epochs=3))
    pool.give(1, Job({"value": 0.5, "seconds": 0.2}, epochs=3))
    ends = endings(hear(pool, until=2))
    assert ends[0] == Ending("lost", reason="its worker ended by signal 9 (out of memory?)")
    assert ends[1].state == "complete"
    wait_free(pool, 2)  # another worker has taken the place
    pool.give(0, Job({"do": "see"}))
    hear(pool)


def test_an_idle_worker_that_is_killed_is_replaced_without_a_word(pool: Pool) -> None:
    pool.start(1)
    for _ in range(5):  # more often than a worker may die before it is ready
        wait_free(pool, 1)
        pool.give(0, Job({"value": 0.0}, epochs=0))
        note = hear(pool)[0].message
        assert isinstance(note, Note)
        os.kill(note.facts["pid"], signal.SIGKILL)
        while pool.free():
            assert not list(pool.events(0.1))


def test_all_workers_are_waited_for_but_not_those_that_do_not_come(pool: Pool) -> None:
    pool.start(1)
    began = time.monotonic()
    pool.gather(0.5, lambda: None)
    assert pool.free() == [0] and time.monotonic() - began >= 0.5
    pool.start()
    pool.gather(60, lambda: None)
    assert pool.free() == [0, 1]


def test_a_job_alone_is_given_once_more_if_its_worker_dies(pool: Pool, tmp_path: Path) -> None:
    pool.start(1)
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


@pytest.mark.parametrize("runner", ["tests.search.runners:Broken", "tests.search.nowhere:Tiny"])
def test_workers_that_cannot_start_end_the_wait(tmp_path: Path, runner: str) -> None:
    pool = Pool(LocalEngine(TWO, runner, tmp_path / "logs"))
    pool.start(1)
    with pytest.raises(WorkersFail, match="the worker of slot 0 ended with exit code 1 before it"):
        wait_free(pool, 1)
    log = (tmp_path / "logs" / "worker-0.log").read_text()
    assert log.count("Traceback") == 3, "three attempts, each with its reason"
    pool.close()


def test_jobs_are_interrupted_and_a_closed_pool_leaves_nobody(pool: Pool) -> None:
    pool.start()
    wait_free(pool, 2)
    pool.give(0, Job({"value": 0.5, "seconds": 600}))
    pool.give(1, Job({"do": "hang"}))
    pids: list[int] = []
    while len(pids) < 3:
        for event in pool.events(0.1):
            assert isinstance(event.message, Note)
            facts = event.message.facts
            pids += [facts[key] for key in ("pid", "child") if key in facts]
    pool.interrupt(pool.busy)
    assert endings(hear(pool)) == {0: Ending("interrupted", reason="stopped")}
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 4
    while not all(gone(pid) for pid in pids):  # a child that was killed takes its moment to go
        assert time.monotonic() - began < 10
        time.sleep(0.1)


def test_workers_of_a_killed_driver_are_gone_in_seconds(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, RUNNER, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    busy, child = map(int, driver.stdout.readline().split())
    workers = [process.pid for process in psutil.Process(driver.pid).children()]
    assert len(workers) == 2 and busy in workers
    driver.kill()
    driver.communicate()
    deadline = time.monotonic() + 3
    while not all(gone(pid) for pid in (*workers, child)):
        assert time.monotonic() < deadline, "orphans live on"
        time.sleep(0.05)


@given(
    count=st.none() | st.integers(1, 40),
    per_gpu=st.integers(1, 4),
    devices=st.integers(1, 8),
    threads=st.none() | st.integers(1, 8),
    gpus=st.lists(st.integers(0, 99).map(str), max_size=16, unique=True),
    cores=st.integers(1, 128),
)
def test_a_machine_is_shared_fairly(
    count: int | None,
    per_gpu: int,
    devices: int,
    threads: int | None,
    gpus: list[str],
    cores: int,
) -> None:
    arguments: dict[str, Any] = {
        **{"count": count, "per_gpu": per_gpu, "devices_per_trial": devices},
        **{"threads": threads, "gpus": gpus, "cores": cores},
    }
    if gpus and len(gpus) < devices:
        with pytest.raises(ValueError, match=f"trainer.devices is {devices}, but only"):
            slots(**arguments)
        return
    shared = slots(**arguments)
    assert len(shared) >= 1 and (count is None or len(shared) == count)
    assert all(slot.threads == (threads or slot.threads) >= 1 for slot in shared)
    if threads is None and len(shared) * devices <= cores:
        assert sum(slot.threads for slot in shared) * devices <= cores
    if not gpus:
        assert all(slot.devices is None for slot in shared)
        return
    users = {gpu: sum(gpu in (s.devices or "").split(",") for s in shared) for gpu in gpus}
    assert all(len((slot.devices or "").split(",")) == devices for slot in shared)
    used = [number for number in users.values() if number]
    assert max(used) - min(used) <= 1, "one GPU works for two"
    if count is None:
        assert used == [per_gpu] * (len(gpus) // devices * devices)
