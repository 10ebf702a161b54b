"""CIFAR-10: 50,000 + 10,000 photos, 32x32 colour, 10 classes (Krizhevsky, 2009)."""

from __future__ import annotations

from .cifar import CifarSet

__all__ = ["load"]

load = CifarSet(
    name="cifar10",
    torchvision_name="CIFAR10",
    archive="cifar-10-python.tar.gz",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    labels_key=b"labels",
    names="batches.meta",
    names_key=b"label_names",
)
