"""Real pictures for the measurements on photos, out of the folder that BAKEOFF_PHOTOS names.

It holds `clothing.tar`, `cifar10-jpeg.tar.xz`, `magnetic-tile.tar.xz` and `medmnist/*.npz`, as they
are published; none of them is part of the project. `elpv` and `elpv_grades` come with the
package elpv-dataset.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["PHOTO_SETS", "given", "photo_set"]

_VARIABLE = "BAKEOFF_PHOTOS"
_PER_CLASS = 100


def photo_set(name: str, folder: Path) -> Path:
    """Return a folder of class folders (within parts, where these are given) of one of the sets.

    Args:
        name: a key of `PHOTO_SETS`.
        folder: where to unpack it.
    """
    target = folder / name
    if not target.exists():
        unfinished = folder / f"{name}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        PHOTO_SETS[name](unfinished)
        unfinished.rename(target)
    return target


def given(name: str) -> Path | None:
    """Return the file of this name in the folder that BAKEOFF_PHOTOS names; None where none is."""
    path = Path(os.environ.get(_VARIABLE, os.devnull)) / name
    return path if path.exists() else None


def _given(name: str) -> Path:
    path = given(name)
    if path is None:
        sys.exit(f"{name} is not there: {_VARIABLE} must name the folder that has it")
    return path


def _unpacked(name: str, target: Path) -> None:
    with tarfile.open(_given(name)) as archive:
        archive.extractall(target, filter="data")


def _clothing(target: Path) -> None:
    _unpacked("clothing.tar", target)
    for part in ("train", "validation", "test"):
        (target / "clothing" / part).rename(target / part)
    shutil.rmtree(target / "clothing")


def _cifar10(target: Path) -> None:
    """A hundred pictures a class for training and as many to validate on; the whole test part."""
    _unpacked("cifar10-jpeg.tar.xz", target / "all")
    whole = next(path for path in (target / "all").rglob("train") if path.is_dir()).parent
    (whole / "test").rename(target / "test")
    for folder in sorted((whole / "train").iterdir()):
        files = sorted(folder.iterdir())
        order = np.random.default_rng(0).permutation(len(files))[: 2 * _PER_CLASS]
        for place, number in enumerate(order):
            part = "train" if place < _PER_CLASS else "val"
            (target / part / folder.name).mkdir(parents=True, exist_ok=True)
            files[number].rename(target / part / folder.name / files[number].name)
    shutil.rmtree(target / "all")


def _tiles(target: Path) -> None:
    _unpacked("magnetic-tile.tar.xz", target / "all")
    for file in sorted((target / "all").rglob("Imgs/*.jpg")):
        label = target / file.parent.parent.name
        label.mkdir(exist_ok=True)
        file.rename(label / file.name)
    shutil.rmtree(target / "all")


def _elpv(label_of: Callable[[float], str]) -> Callable[[Path], None]:
    """Photos of solar cells, in folders called by how probable a defect is."""

    def write(target: Path) -> None:
        found = importlib.util.find_spec("elpv_dataset")
        if found is None or found.origin is None:
            sys.exit("the pictures are not there: pip install elpv-dataset")
        data = Path(found.origin).parent / "data"
        for line in filter(str.strip, (data / "labels.csv").read_text().split("\n")):
            image, probability, *_ = line.split()
            label = target / label_of(float(probability))
            label.mkdir(exist_ok=True)
            shutil.copyfile(data / image, label / Path(image).name)

    return write


def _medmnist(name: str) -> Callable[[Path], None]:
    def write(target: Path) -> None:
        with np.load(_given(f"medmnist/{name}.npz"), allow_pickle=False) as arrays:
            for part in ("train", "val", "test"):
                images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"].ravel()
                for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                    folder = target / part / f"class{label}"
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(image).save(folder / f"{number:05d}.png")

    return write


PHOTO_SETS: dict[str, Callable[[Path], None]] = {
    "clothing": _clothing,
    "cifar10": _cifar10,
    "tiles": _tiles,
    "elpv": _elpv(lambda probability: "defective" if probability >= 0.5 else "working"),
    "elpv_grades": _elpv(lambda probability: f"class{round(3 * probability)}"),
    "breastmnist": _medmnist("breastmnist"),
    "retinamnist": _medmnist("retinamnist"),
}
