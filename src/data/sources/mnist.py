"""MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

from pathlib import Path

from .idx import IdxSet

__all__ = ["load"]

load = IdxSet("mnist", tuple("0123456789"), Path("/usr/share/datasets/mnist"), "MNIST")
