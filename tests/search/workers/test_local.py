"""Worker processes on this machine: their environment, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from src.search.jobs import Job, WorkersFail
from src.search.pool import Pool
from src.search.workers import forking
from src.search.workers.local import LocalEngine
from src.search.workers.slots import THREAD_VARIABLES, Slot
from tests.search.workers.pools import (
    RUNNER,
    answered,
    begun,
    endings,
    gone,
    wait_free,
    wait_until,
)

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


def test_alike_workers_without_gpus_share_one_import(tmp_path: Path) -> None:
    pool = Pool(LocalEngine([Slot(None, 1)] * 2, RUNNER, tmp_path))
    pool.start()
    wait_free(pool, 2)
    for slot in (0, 1):
        pool.give(slot, Job({"value": 0.5}))
    first, second = begun(pool, 2).values()
    importer = _importer()
    assert {first["importer"], second["importer"]} == {str(importer.pid)}
    assert first["pid"] != second["pid"]
    pool.close()
    assert all(gone(pid) for pid in (importer.pid, first["pid"], second["pid"]))
    log = (tmp_path / "worker-1.log").read_text()
    assert log == "a line of output\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such numbers of open files")
def test_a_driver_may_have_thousands_of_files_open(tmp_path: Path) -> None:
    """The connection to what forks workers has the number of the file that it is there, too."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 4096:
        pytest.skip("this user may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, limits[1]))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        pool = Pool(LocalEngine([Slot(None, 1)] * 2, RUNNER, tmp_path))
        pool.start()
        wait_free(pool, 2)
        pool.give(0, Job({"value": 0.5}))
        assert endings(pool, until=1)[0].state == "complete"
        pool.close()
    finally:
        for one in opened:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_workers_outlive_what_has_forked_them(tmp_path: Path) -> None:
    pool = Pool(LocalEngine([Slot(None, 1)] * 2, RUNNER, tmp_path))
    pool.start()
    wait_free(pool, 2)
    importer = _importer()
    importer.kill()
    importer.wait()
    pool.give(0, Job({"value": 0.5, "die": 2}, epochs=3))
    pool.give(1, Job({"value": 0.5}, epochs=3))
    ends = endings(pool, until=2)
    assert (ends[0].state, ends[1].state) == ("lost", "complete")
    wait_free(pool, 2)  # another process has forked the one that takes the place
    assert _importer().pid != importer.pid
    pool.close()


def test_workers_that_cannot_import_say_why(tmp_path: Path) -> None:
    pool = Pool(LocalEngine([Slot(None, 1)] * 2, "tests.search.nowhere:Tiny", tmp_path))
    pool.start()
    with pytest.raises(WorkersFail, match="ended with exit code 1 before it was ready"):
        answered(pool, lambda _: False)
    pool.close()
    assert "No module named 'tests.search.nowhere'" in (tmp_path / "worker-0.log").read_text()


def test_what_imports_for_workers_ends_with_the_driver_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "_GRACE_SECONDS", 300.0)
    (tmp_path / "slow_runner.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = Pool(LocalEngine([Slot(None, 1)] * 2, "slow_runner:Tiny", tmp_path))
    pool.start()
    importer = _importer()
    began = time.monotonic()
    pool.close()
    assert gone(importer.pid) and time.monotonic() - began < 100, "nobody waits for an import"


@pytest.mark.slow
def test_what_imports_for_workers_leaves_no_thread_and_touches_no_gpu() -> None:
    script = (
        "import os, torch\n"
        "def touched(*_): raise SystemExit('a GPU')\n"
        "torch._C._cuda_getDeviceCount = torch._C._cuda_init = touched\n"
        "import src.sweeps.run_job\n"
        "assert not torch.cuda.is_initialized()\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | dict.fromkeys(THREAD_VARIABLES, "1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["1"]


def _importer() -> psutil.Process:
    children = psutil.Process().children()
    living = [one for one in children if not gone(one.pid)]  # a zombie has no command
    (found,) = (one for one in living if "src.search.workers.forking" in one.cmdline())
    return found


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
    family = [one.pid for one in psutil.Process(driver.pid).children(recursive=True)]
    assert len(family) == 4 and {busy, child} < {*family}
    driver.kill()
    driver.communicate()
    wait_until(lambda: all(map(gone, family)), 3, "orphans live on")
