"""Where trials run: the GPUs and cores of this machine, or a cluster; told without torch."""

from __future__ import annotations

import os
from pathlib import Path

from src.config.checks import ConfigError
from src.config.sweep import SweepSettings
from src.machine.parallel import available_cores
from src.search.workers.engine import Engine
from src.search.workers.local import LocalEngine, slots

__all__ = ["engine_for", "usual_slots", "visible_gpus"]

# A worker has some 0.7 GB of its own: many cores are no reason for as many workers.
_CORES_A_WORKER = 4


def visible_gpus() -> list[str]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, or all there are; as that variable takes them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:  # no driver, no GPU
        return []
    return [str(number) for number in range(count)]


def usual_slots(cores: int, processes: int = 1) -> int:
    """Workers that suit so many cores where there is no GPU: two at least, of two cores, if a trial
    is one process."""
    return max(1, min(cores, max(2, cores // _CORES_A_WORKER)) // processes)


def engine_for(settings: SweepSettings, folder: Path, runner: str) -> tuple[Engine, int]:
    """Return what starts the workers of a sweep, and the threads that each of them has.

    Args:
        settings: of the sweep.
        folder: for the workers' output.
        runner: that a worker imports, "module:name".

    Raises:
        ConfigError: there is not so much as the settings ask for.
    """
    workers, devices = settings.workers, settings.trainer.devices
    try:
        if workers.engine == "ray":
            from src.search.workers.ray import RayEngine

            cluster = RayEngine(
                runner,
                address=workers.address,
                folder=folder,
                count=workers.count,
                per_gpu=workers.per_gpu,
                devices_per_trial=devices if isinstance(devices, int) else 1,
                threads=workers.threads,
                use_gpus=settings.trainer.accelerator != "cpu",
            )
            return cluster, cluster.share.threads
        gpus = [] if settings.trainer.accelerator == "cpu" else visible_gpus()
        cores = available_cores()
        per_trial = devices if isinstance(devices, int) else max(1, len(gpus))
        places = slots(
            count=workers.count or (None if gpus else usual_slots(cores, per_trial)),
            per_gpu=workers.per_gpu,
            devices_per_trial=per_trial,
            threads=workers.threads,
            gpus=gpus,
            cores=cores,
        )
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
    return LocalEngine(places, runner, folder), places[0].threads
