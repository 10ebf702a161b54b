"""Worker processes on this machine: their environment, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.search.jobs import Job
from src.search.pool import Pool
from src.search.workers.local import LocalEngine, Slot, slots
from tests.search.workers.pools import RUNNER, endings, gone, wait_free, wait_until

ROOT = Path(__file__).resolve().parents[3]
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


def test_a_worker_sees_its_devices_and_threads_before_it_imports_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    pool = Pool(LocalEngine([Slot("3,GPU-abc", 2), Slot(None, 1)], RUNNER, tmp_path))
    pool.start()
    wait_free(pool, 2)
    for slot in (0, 1):
        pool.give(slot, Job({"do": "see"}))
    seen = {slot: ending.result for slot, ending in endings(pool, until=2).items()}
    pool.close()
    assert seen[0]["seen"] == {"CUDA_VISIBLE_DEVICES": "3,GPU-abc", "OMP_NUM_THREADS": "2"}
    # Without devices of its own a worker sees what the driver sees.
    assert seen[1]["seen"] == {"CUDA_VISIBLE_DEVICES": "7", "OMP_NUM_THREADS": "1"}
    assert seen[0]["heavy"] == seen[1]["heavy"] == []


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
    wait_until(lambda: all(gone(pid) for pid in (*workers, child)), 3, "orphans live on")


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
