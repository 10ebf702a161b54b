"""CIFAR-100: 50,000 + 10,000 photos, 32x32 colour, 100 classes (Krizhevsky, 2009)."""

from __future__ import annotations

from .cifar import CifarSet

__all__ = ["load"]

load = CifarSet(
    name="cifar100",
    torchvision_name="CIFAR100",
    archive="cifar-100-python.tar.gz",
    folder="cifar-100-python",
    train=("train",),
    test=("test",),
    labels_key=b"fine_labels",
    names="meta",
    names_key=b"fine_label_names",
)
