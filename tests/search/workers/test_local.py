"""Worker processes on this machine: their environment, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from src.search.jobs import Job
from src.search.pool import Pool
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot
from tests.search.workers.pools import RUNNER, endings, gone, wait_free, wait_until

ROOT = Path(__file__).resolve().parents[3]
# A driver with a busy and an idle worker, which tells their process ids and then waits.
_DRIVER = """
import sys, time
from pathlib import Path
from src.search.jobs import Job
from src.search.pool import Pool
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot
from tests.search.workers.pools import RUNNER, begun, wait_free

pool = Pool(LocalEngine([Slot(None, 1)] * 2, RUNNER, Path(sys.argv[1])))
pool.start()
wait_free(pool, 2)
pool.give(0, Job({"do": "hang"}))
begin = begun(pool)[0]
print(begin["pid"], begin["child"], flush=True)
time.sleep(600)
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
        [sys.executable, "-c", _DRIVER, str(tmp_path)],
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
