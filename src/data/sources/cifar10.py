"""CIFAR-10: 50,000 + 10,000 photos, 32x32 colour, 10 classes (Krizhevsky, 2009)."""

from __future__ import annotations

from pathlib import Path

from src.data.sources.cifar import Layout, load_cifar
from src.data.sources.source import Source

__all__ = ["load"]

_LAYOUT = Layout(
    name="cifar10",
    archive="cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    labels_key=b"labels",
    names="batches.meta",
    names_key=b"label_names",
)


def load(root: Path | None, cache_dir: Path, download: bool) -> Source:
    """CIFAR-10 as arrays (60000, 3, 32, 32) with its parts train and test; see `load_cifar`."""
    return load_cifar(_LAYOUT, root=root, cache_dir=cache_dir, download=download, fetch=_fetch)


def _fetch(folder: Path) -> object:
    from torchvision.datasets import CIFAR10

    return CIFAR10(folder, download=True)
