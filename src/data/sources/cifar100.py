"""CIFAR-100: 50,000 + 10,000 photos, 32x32 colour, 100 classes (Krizhevsky, 2009)."""

from __future__ import annotations

from pathlib import Path

from src.data.sources.cifar import Layout, load_cifar
from src.data.sources.source import Source

__all__ = ["load"]

_LAYOUT = Layout(
    name="cifar100",
    archive="cifar-100-python.tar.gz",
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    labels_key=b"fine_labels",
    names="meta",
    names_key=b"fine_label_names",
)


def load(root: Path | None, cache_dir: Path, download: bool) -> Source:
    """CIFAR-100 as arrays (60000, 3, 32, 32) with its parts train and test; see `load_cifar`."""
    return load_cifar(_LAYOUT, root=root, cache_dir=cache_dir, download=download, fetch=_fetch)


def _fetch(folder: Path) -> object:
    from torchvision.datasets import CIFAR100

    return CIFAR100(folder, download=True)
