"""What this machine has for trials: GPUs and cores, told without torch."""

from __future__ import annotations

import os

__all__ = ["usual_slots", "visible_gpus"]

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
