"""Processor and device: their names, and the number formats that are worth trying on them.

torch is imported by the functions that need a device, so that naming the processor costs nothing.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = [
    "device_of",
    "device_of_run",
    "has_bfloat16",
    "has_room",
    "machine",
    "precisions",
    "processor",
]

# Fraction of a GPU's free memory for an array; the rest is for the network.
_SHARE_OF_AN_ARRAY = 0.25


def device_of(accelerator: str) -> torch.device:
    """Return the device of an accelerator: "auto", "cpu", "gpu" (CUDA) or "mps" (Apple).

    "auto" and "gpu" are the CPU where torch sees no GPU of CUDA. It begins no use of a GPU.
    """
    import torch

    # cuBLAS promises equal sums with this alone, and torch reads it once, at the first product.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    if accelerator == "mps":
        return torch.device("mps")
    gpu = accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def device_of_run(metadata: Mapping[str, Any]) -> torch.device:
    """Return the device for the model of a run, by metadata that hold the run's `settings`.

    That is the CPU where the settings state it, else a GPU of CUDA where torch sees one: a
    model may be used on another machine than that which trained it.
    """
    stated = metadata.get("settings", {}).get("trainer", {}).get("accelerator")
    return device_of("cpu" if stated == "cpu" else "auto")


def machine(device: torch.device) -> dict[str, Any]:
    """Return processor, device and torch version as plain values for JSON."""
    import torch

    return {
        "processor": processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": str(torch.__version__),
    }


def precisions(device: torch.device) -> list[str]:
    """Return the number formats that may be fast on a device, float32 first.

    Half precision that the device emulates is slow, and left out.
    """
    if has_bfloat16(device):
        return ["float32", "bfloat16"]
    return ["float32", "float16"] if device.type == "cuda" else ["float32"]


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes in bfloat16 itself."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    can = torch.cpu.get_capabilities()
    return any(can.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))


def has_room(device: torch.device, size: int) -> bool:
    """Return whether an array of `size` bytes takes at most a quarter of a GPU's free memory.

    Never of other devices.
    """
    import torch

    if device.type != "cuda":
        return False
    free, total = torch.cuda.mem_get_info(device)
    # Beside other trials on the GPU this process may take a share of it alone.
    free = min(free, int(torch.cuda.get_per_process_memory_fraction(device) * total))
    return size <= _SHARE_OF_AN_ARRAY * free


def processor() -> str:
    """Return the processor's model where the system knows it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
