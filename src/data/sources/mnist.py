"""MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

from pathlib import Path

from src.data.sources.idx import load_idx
from src.data.sources.source import Source

__all__ = ["load"]

_CLASSES = tuple(str(digit) for digit in range(10))


def load(root: Path | None, cache_dir: Path, download: bool) -> Source:
    """MNIST as arrays (70000, 1, 28, 28) with its parts train and test; see `load_idx`."""
    return load_idx(
        "mnist",
        _CLASSES,
        root=root,
        system=Path("/usr/share/datasets/mnist"),
        cache_dir=cache_dir,
        download=download,
        torchvision_name="MNIST",
        fetch=_fetch,
    )


def _fetch(folder: Path) -> object:
    from torchvision.datasets import MNIST

    return MNIST(folder, download=True)
