"""The slots that a machine or a cluster is divided into, one a worker."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...config.checks import ConfigError

if TYPE_CHECKING:
    from ...config.sweep import WorkersSettings

__all__ = [
    "GPU_SHARE",
    "THREAD_VARIABLES",
    "ReservedSlots",
    "Slot",
    "cluster_slots",
    "refuse_machine",
    "slots",
    "visible_gpus",
]

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# The share of a GPU's memory that a worker may take, for the runner to keep to.
GPU_SHARE = "BAKEOFF_GPU_SHARE"
# A worker has some 0.7 GB of its own: many cores are no reason for as many workers.
_CORES_A_WORKER = 4
# A number, or the begin of an identifier of a GPU or of a part of one.
_GPU = re.compile(r"\d+$|GPU-|MIG-")
_AMD = "/dev/kfd"  # torch for ROCm calls such GPUs CUDA's


@dataclass(frozen=True)
class Slot:
    """A worker's GPUs, as CUDA_VISIBLE_DEVICES lists them (None for what there is), and threads.

    Attributes:
        gpu_share: of the memory of each of its GPUs, in (0, 1].
    """

    devices: str | None
    threads: int
    gpu_share: float = 1.0


@dataclass(frozen=True)
class ReservedSlots:
    """So many slots with threads each, for which Ray reserves CPUs and GPUs, maybe fractions."""

    count: int
    threads: int
    cpus: float
    gpus: float


def slots(workers: WorkersSettings, devices: int, *, gpus: Sequence[str], cores: int) -> list[Slot]:
    """Return the slots that a machine is divided into.

    Without GPUs and without a count there is a slot for some cores, two at least, of two cores, if
    a trial is one process.

    Args:
        workers: its `threads` are those of each process of a trial, one a device.
        devices: of one trial; with several GPUs each slot has as many to itself.
        gpus: their names, as CUDA_VISIBLE_DEVICES takes them; none for trials on the CPU.
        cores: of the CPU that may be used.

    Raises:
        ValueError: there are fewer GPUs than one trial needs.
    """
    if gpus and len(gpus) < devices:
        raise ValueError(f"trainer.devices is {devices}, but only {len(gpus)} GPUs are here")
    places: list[str | None]
    if gpus:
        whole = len(gpus) // devices * devices
        groups = [",".join(gpus[i : i + devices]) for i in range(0, whole, devices)]
        places = [*groups] * workers.per_gpu
    else:
        usual = min(cores, max(2, cores // _CORES_A_WORKER))
        places = [None] * max(1, usual // devices)
    if workers.count is not None:
        places = [places[i % len(places)] for i in range(workers.count)]
    threads = workers.threads or max(1, cores // (len(places) * devices))
    return [Slot(place, threads, 1 / places.count(place) if gpus else 1.0) for place in places]


def refuse_machine(accelerator: str) -> None:
    """Refuse a sweep by processes of this machine that it cannot carry out; without torch.

    Raises:
        ConfigError: it runs Windows, or lacks what `trainer.accelerator` names.
    """
    if os.name == "nt":
        raise ConfigError(
            "workers: the processes of a sweep inherit connections, which Windows does not let "
            "them: run the sweep in WSL, or train single candidates."
        )
    if accelerator == "gpu" and not visible_gpus() and not os.path.exists(_AMD):
        raise ConfigError("trainer.accelerator is gpu, but there is no GPU to be seen here.")
    if accelerator == "mps" and sys.platform != "darwin":
        raise ConfigError("trainer.accelerator is mps, but there is no Apple GPU here.")


def visible_gpus() -> list[str]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, or all there are; without torch.

    As CUDA reads it: up to the first name that no GPU can have, such as -1, "NoDevFiles" or none.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        names = map(str.strip, named.split(","))
        return [*itertools.takewhile(_GPU.match, names)]
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:  # no driver, no GPU
        return []
    return [str(number) for number in range(count)]


def cluster_slots(
    workers: WorkersSettings,
    devices: int,
    *,
    nodes: Sequence[tuple[float, float]],
    use_gpus: bool,
) -> ReservedSlots:
    """Return the slots that a cluster is divided into.

    Without a count there are as many as fit; more than fit wait until Ray finds room for them.

    Args:
        workers, devices: as of `slots`, on one node.
        nodes: CPUs and GPUs of each.
        use_gpus: if there are any.

    Raises:
        ValueError: no slot fits on any node.
    """
    if use_gpus and any(gpus >= 1 for _, gpus in nodes):
        if devices > 1 and workers.per_gpu > 1:
            raise ValueError(
                f"workers.per_gpu is {workers.per_gpu}, but Ray gives whole GPUs to trials on "
                "several: set workers.per_gpu=1"
            )
        places = [int(gpus) // devices * workers.per_gpu for _, gpus in nodes]
        if not any(places):
            raise ValueError(
                f"trainer.devices is {devices}, but no node of the Ray cluster has as many GPUs"
            )
        room = min(cpus / n for (cpus, _), n in zip(nodes, places) if n)
        threads = workers.threads or max(1, int(room) // devices)
        cpus = min(threads * devices, room)
        return ReservedSlots(workers.count or sum(places), threads, cpus, devices / workers.per_gpu)
    cores = [int(cpus) for cpus, _ in nodes]
    threads = workers.threads or _most_threads(cores, workers.count, devices)
    needed = threads * devices
    fit = sum(n // needed for n in cores)
    if not fit:
        raise ValueError(f"a trial needs {needed} CPUs, but no node of the Ray cluster has as many")
    return ReservedSlots(workers.count or fit, threads, needed, 0.0)


def _most_threads(cores: Sequence[int], count: int | None, devices: int) -> int:
    """Return the most threads with which so many slots fit; 1 if their number is open."""
    if count is None:
        return 1
    usable = range(1, max(cores, default=0) // devices + 1)
    fitting = [n for n in usable if sum(c // (n * devices) for c in cores) >= count]
    return max(fitting, default=1)
