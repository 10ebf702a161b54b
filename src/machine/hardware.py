"""What the speed of a network depends on besides the network: processor, device, library."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

__all__ = ["has_bfloat16", "machine"]


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, device and torch version as plain values for JSON."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": str(torch.__version__),
    }


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself; emulated, it is slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = torch.cpu.get_capabilities()
    return any(can.get(unit, False) for unit in ("avx512_bf16", "amx_bf16", "bf16"))


def _processor() -> str:
    """The processor's model where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
