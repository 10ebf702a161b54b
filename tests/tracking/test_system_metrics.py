"""Samples of the machine: their keys are MLflow's, their values what was really done."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from src.tracking.spool import Spool
from src.tracking.system_metrics import PREFIX, SystemMonitor, SystemSampler
from tests.tracking.test_spool import points
from tests.tracking.test_tracker import start


class NVMLError(Exception):
    pass


def nvml(*, driver: bool = True) -> SimpleNamespace:
    """NVIDIA's management library on a machine with two GPUs, the second of which has no meter."""

    def start() -> None:
        if not driver:
            raise NVMLError("no driver")

    def power(gpu: int) -> int:
        if gpu == 1:
            raise NVMLError("not supported")
        return 150_000

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=start,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=(gpu + 1) * 2e9, total=8e9),
        nvmlDeviceGetUtilizationRates=lambda gpu: SimpleNamespace(gpu=70 + gpu),
        nvmlDeviceGetPowerUsage=power,
        nvmlDeviceGetEnforcedPowerLimit=lambda gpu: 600_000,
    )


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setitem(sys.modules, "pynvml", module := nvml())
    return module


@pytest.fixture
def busy_child() -> Iterator[subprocess.Popen[bytes]]:
    """Works on one core for as long as it lives, with 100 MB of memory written to."""
    code = "x = bytearray(b'x') * 100_000_000\nprint(flush=True)\nwhile True: pass"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    yield child
    child.kill()
    child.wait()


def test_the_keys_are_mlflows_own(
    tmp_path: Path, gpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.system_metrics.metrics.gpu_monitor.pynvml", gpus, raising=False)
    expected: set[str] = set()
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor(), GPUMonitor()):
        monitor.collect_metrics()
        expected |= {f"system/{key}" for key in monitor.aggregate_metrics()}
    ours = set(SystemSampler(tmp_path).sample())
    assert ours - expected == {
        "system/run_cpu_utilization_percentage",
        "system/run_memory_usage_megabytes",
    }
    assert expected <= ours


def test_gpus_tell_what_they_know(tmp_path: Path, gpus: SimpleNamespace) -> None:
    values = SystemSampler(tmp_path).sample()
    assert {key: value for key, value in values.items() if "/gpu_" in key} == {
        "system/gpu_0_memory_usage_megabytes": 2000.0,
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_utilization_percentage": 70,
        "system/gpu_0_power_usage_watts": 150.0,
        "system/gpu_0_power_usage_percentage": 25.0,
        "system/gpu_1_memory_usage_megabytes": 4000.0,
        "system/gpu_1_memory_usage_percentage": 50.0,
        "system/gpu_1_utilization_percentage": 71,
    }


def test_a_machine_without_a_driver_has_no_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(driver=False))
    assert not [key for key in SystemSampler(tmp_path).sample() if "gpu" in key]


def test_the_runs_share_is_that_of_all_its_processes(
    tmp_path: Path, busy_child: subprocess.Popen[bytes]
) -> None:
    child = psutil.Process(busy_child.pid)

    def used() -> tuple[float, float]:
        return sum(child.cpu_times()[:2]), time.monotonic()

    around = used()
    sampler = SystemSampler(tmp_path)
    within = used()
    # Other tests may have left processes that wait.
    children = psutil.Process().children(recursive=True)
    while used()[0] < within[0] + 0.4:  # however long that takes on a busy machine
        time.sleep(0.05)
    (inner, least), values, (outer, most) = used(), sampler.sample(), used()
    low = 100 * (inner - within[0]) / (most - around[1])
    high = 100 * (outer - around[0]) / (least - within[1])
    assert 0.8 * low < values["system/run_cpu_utilization_percentage"] < 1.2 * high
    together = sum(one.memory_info().rss for one in (psutil.Process(), *children)) / 1e6
    assert values["system/run_memory_usage_megabytes"] == pytest.approx(together, rel=0.1)
    assert child.memory_info().rss > 100e6


def test_a_process_that_ended_does_not_make_the_share_negative(
    tmp_path: Path, busy_child: subprocess.Popen[bytes]
) -> None:
    time.sleep(0.3)
    sampler = SystemSampler(tmp_path)
    busy_child.kill()
    busy_child.wait()
    assert sampler.sample()["system/run_cpu_utilization_percentage"] >= 0


def test_a_monitor_samples_off_the_callers_thread_until_it_is_stopped(tmp_path: Path) -> None:
    taken: list[tuple[int, str]] = []
    monitor = SystemMonitor(
        lambda values, step: taken.append((step, threading.current_thread().name)),
        seconds=0.05,
        folder=tmp_path,
        first_step=7,
    )
    deadline = time.monotonic() + 30
    while len(taken) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    monitor.stop()
    count = len(taken)
    time.sleep(0.2)
    assert len(taken) == count >= 3
    assert [step for step, _ in taken] == list(range(7, 7 + count))
    assert {name for _, name in taken} == {"system metrics"}


def test_the_shortest_of_runs_has_a_sample_and_one_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: SystemSampler) -> dict[str, float]:
        raise OSError("no such file")

    taken: list[int] = []
    for _ in range(2):
        SystemMonitor(lambda values, step: taken.append(step), seconds=10, folder=tmp_path).stop()
        assert taken == [0]
        monkeypatch.setattr(SystemSampler, "sample", fails)


def test_a_resumed_run_counts_its_samples_on(tmp_path: Path) -> None:
    for _ in range(2):
        tracker = start(tmp_path, "a" * 32, enabled=False, system_metrics_seconds=10.0)
        run_dir = tracker.run_dir
        tracker.metrics({"val/loss": 1.0}, step=40)
        tracker.finish("FINISHED")
    memory = [
        step for key, step, _ in points(run_dir) if key == f"{PREFIX}run_memory_usage_megabytes"
    ]
    assert memory == [0, 1]
    with Spool(run_dir) as spool:
        assert [spool.next_step(key) for key in (PREFIX, "val/", "no/")] == [2, 41, 0]
