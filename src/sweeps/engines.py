"""The engines that run the workers of a sweep: processes of this machine, or of a cluster."""

from __future__ import annotations

from pathlib import Path

from ..config.checks import ConfigError
from ..config.sweep import SweepSettings
from ..machine.package import PACKAGE
from ..machine.parallel import available_cores
from ..search.jobs import Engine
from ..search.workers.local import LocalEngine
from ..search.workers.slots import slots, visible_gpus

__all__ = ["engine_of"]

_RUNNER = f"{PACKAGE}.sweeps.run_job:TrialRunner"


def engine_of(settings: SweepSettings, folder: Path) -> tuple[Engine, int]:
    """Return what runs the workers of a sweep, and the threads that each of them has."""
    workers, devices = settings.workers, settings.trainer.devices
    use_gpus = settings.trainer.accelerator != "cpu"
    try:
        if workers.engine == "ray":
            from ..search.workers.ray import RayEngine

            count = devices if isinstance(devices, int) else 1
            ray = RayEngine(
                workers,
                _RUNNER,
                folder,
                devices=count,
                use_gpus=use_gpus,
                written=("run_dir", "fold_dir"),
            )
            return ray, ray.share.threads
        gpus = visible_gpus() if use_gpus else []
        count = devices if isinstance(devices, int) else max(1, len(gpus))
        places = slots(workers, count, gpus=gpus, cores=available_cores())
    except ValueError as error:
        raise ConfigError(f"{error}.") from error
    return LocalEngine(places, _RUNNER, folder), places[0].threads
