"""Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 28x28 grey (Xiao et al., 2017)."""

from __future__ import annotations

from pathlib import Path

from src.data.sources.idx import load_idx
from src.data.sources.source import Source

__all__ = ["load"]

# The first is published as "T-shirt/top"; a slash would cut the keys of its metrics in two.
_CLASSES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load(root: Path | None, cache_dir: Path, download: bool) -> Source:
    """Fashion-MNIST as arrays (70000, 1, 28, 28) with its parts train and test; see `load_idx`."""
    return load_idx(
        "fashion_mnist",
        _CLASSES,
        root=root,
        # Debian's package dataset-fashion-mnist.
        system=Path("/usr/share/datasets/fashion-mnist"),
        cache_dir=cache_dir,
        download=download,
        torchvision_name="FashionMNIST",
        fetch=_fetch,
    )


def _fetch(folder: Path) -> object:
    from torchvision.datasets import FashionMNIST

    return FashionMNIST(folder, download=True)
