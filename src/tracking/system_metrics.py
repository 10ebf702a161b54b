"""System metrics of a run: processor, memory, disk, network and GPUs, sampled while it goes on.

The keys are those of MLflow's own system metrics, so that its "System metrics" tab shows them.
MLflow's sampler is not used: it is started with a run of the fluent interface alone, and logs to
MLflow instead of the spool.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

__all__ = ["PREFIX", "THREAD_NAME", "SystemMonitor", "SystemSampler"]

PREFIX = "system/"
THREAD_NAME = "system metrics"
_MEGABYTE = 1e6
# A share of processor time over a shorter span means little, and the shortest run takes longer.
_FIRST_SECONDS = 1.0
_STOP_SECONDS = 5.0


class SystemSampler:
    """Measures the machine, and this process with all of its children.

    Shares of time, such as the processor's, are those since the last sample; counts, such as bytes
    received, are those since the sampler was created. The disk is that of `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = psutil.Process()
        self._gpus = _gpus()
        self._network = psutil.net_io_counters()
        psutil.cpu_percent()  # begins the first span
        self._looked = time.monotonic()
        self._busy, _ = self._run()

    def sample(self) -> dict[str, float]:
        """Return the current values, by key; those that the system does not report are left out.

        `run_cpu_utilization_percentage` is of one core, and so above 100 where several work;
        `run_memory_usage_megabytes` counts memory that processes share once for each.
        """
        now, (busy, resident) = time.monotonic(), self._run()
        # A process that ends may take its time with it.
        share = max(0.0, busy - self._busy) / max(now - self._looked, 1e-3)
        self._looked, self._busy = now, busy
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "run_cpu_utilization_percentage": 100 * share,
            "run_memory_usage_megabytes": resident / _MEGABYTE,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / _MEGABYTE,
            "disk_available_megabytes": disk.free / _MEGABYTE,
        }
        network = psutil.net_io_counters()
        if network is not None and self._network is not None:
            received = network.bytes_recv - self._network.bytes_recv
            sent = network.bytes_sent - self._network.bytes_sent
            values["network_receive_megabytes"] = received / _MEGABYTE
            values["network_transmit_megabytes"] = sent / _MEGABYTE
        for index, gpu in enumerate(self._gpus):
            values |= {f"gpu_{index}_{name}": value for name, value in _gpu_values(gpu).items()}
        return {f"{PREFIX}{name}": round(value, 1) for name, value in values.items()}

    def _run(self) -> tuple[float, float]:
        """Return processor seconds so far, and bytes of memory, of all processes of the run."""
        seconds = resident = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    resident += process.memory_info().rss
            except psutil.Error:  # it ended just now
                continue
            # With those of the children that have ended, where the system keeps them.
            seconds += sum(times[:4])
        return seconds, resident


class SystemMonitor:
    """Samples on a thread of its own, from its creation until `stop`.

    The first sample is taken after one second and the last at the end, so that short runs have
    some. `take` is called with each one and its step, on that thread.
    """

    def __init__(
        self,
        take: Callable[[dict[str, float], int], None],
        *,
        seconds: float,
        folder: Path,
        first_step: int = 0,
    ) -> None:
        self._take = take
        self._seconds = seconds
        self._folder = folder
        self._step = first_step
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=THREAD_NAME, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take the last sample and end; a GPU driver that hangs is not waited for."""
        self._over.set()
        self._thread.join(_STOP_SECONDS)

    def _watch(self) -> None:
        sampler = SystemSampler(self._folder)
        wait, over = min(_FIRST_SECONDS, self._seconds), False
        while not over:
            over, wait = self._over.wait(wait), self._seconds
            try:
                values = sampler.sample()
            except (psutil.Error, OSError):  # one sample less is no loss
                continue
            self._take(values, self._step)
            self._step += 1


def _gpus() -> list[Any]:
    """Return a handle for each NVIDIA GPU of the machine; none without their driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _gpu_values(gpu: Any) -> dict[str, float]:
    """Return the values of one GPU; many do not report all."""
    import pynvml

    values: dict[str, float] = {}
    with suppress(pynvml.NVMLError):
        memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        values["memory_usage_megabytes"] = memory.used / _MEGABYTE
        values["memory_usage_percentage"] = 100 * memory.used / memory.total
        values["utilization_percentage"] = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu
        milliwatts = pynvml.nvmlDeviceGetPowerUsage(gpu)
        values["power_usage_watts"] = milliwatts / 1000
        limit = pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu)
        values["power_usage_percentage"] = 100 * milliwatts / limit
    return values
