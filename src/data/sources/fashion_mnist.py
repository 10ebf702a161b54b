"""Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 28x28 grey (Xiao et al., 2017)."""

from __future__ import annotations

from pathlib import Path

from .idx import IdxSet

__all__ = ["load"]

load = IdxSet(
    "fashion_mnist",
    # The first is published as "T-shirt/top"; a slash would cut the keys of its metrics in two.
    (
        *("T-shirt", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    Path("/usr/share/datasets/fashion-mnist"),  # of Debian's package dataset-fashion-mnist
    "FashionMNIST",
)
