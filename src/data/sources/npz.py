"""Pictures in one `.npz` file of NumPy: arrays of pixels and labels, in one part or in several."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import AnyArray, BoolArray
from ...machine.memory import available_memory
from ...machine.text import text_fault
from ...storage.array_files import open_arrays
from .label_sets import named_classes
from .label_spelling import clean_label
from .source import PARTS, Problem, Source

__all__ = ["list_arrays"]

_IMAGES, _LABELS = "images", "labels"
# Of the memory that is free: the arrays are read whole, and decoded beside that.
_MOST_OF_FREE_MEMORY = 0.5


def list_arrays(file: Path, *, several: bool = False) -> Source:
    """Return the pictures of an `.npz` file.

    It has `images` (N, H, W) or (N, H, W, C) of any numbers and `labels` (N,) or (N, 1), whole
    numbers or texts; or such pairs for its parts, `train_images`, `train_labels`, `val_images` and
    so on, as MedMNIST has them. With `several` labels a picture, `labels` are (N, K) of 0 and 1,
    and the classes are called by their numbers. Other arrays are left alone. Nothing is unpickled.

    Raises:
        ConfigError: the file is damaged or larger than memory, arrays are missing, of other shapes
            or kinds, or there are fewer than two labels.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(item.file_size for item in archive.infolist())
        free = available_memory()
        if size > _MOST_OF_FREE_MEMORY * free:
            raise ConfigError(
                f"{file} unpacks to {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are "
                "free: save its pictures as .npy files in one folder a class."
            )
        with open_arrays(file) as stored:
            prefixes = _prefixes(file, stored.files)
            images = [_images(file, prefix + _IMAGES, stored) for prefix in prefixes]
            labels = [_labels(file, prefix + _LABELS, stored, several) for prefix in prefixes]
    except ConfigError:
        raise
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{file} cannot be read as arrays: {error}.") from None
    for prefix, some, names in zip(prefixes, images, labels, strict=True):
        if len(some) != len(names):
            raise ConfigError(
                f"{file}: there are {len(some)} {prefix}{_IMAGES} and {len(names)} "
                f"{prefix}{_LABELS}."
            )
    shapes = {(some.shape[1:], str(some.dtype)) for some in images}
    if len(shapes) > 1:
        listed = " and ".join(f"{kind} {shape}" for shape, kind in sorted(shapes))
        raise ConfigError(f"{file}: the pictures of the parts differ in shape or kind: {listed}.")
    parts = [prefix.rstrip("_") for prefix in prefixes]
    given = None if parts == [""] else np.repeat(parts, [len(some) for some in images])
    class_names, targets, remarks = _classes(file, np.concatenate(labels), given, several)
    return Source(
        "folder",
        class_names,
        targets,
        arrays=images[0] if len(images) == 1 else np.concatenate(images),
        given_parts=given,
        kind="multi" if several else "single",
        problems=tuple(Problem(file.name, remark) for remark in remarks),
    )


def _prefixes(file: Path, names: list[str]) -> list[str]:
    """Return what stands before `images` in the names of arrays: nothing, or the parts'."""
    if _IMAGES in names:
        return [""]
    found = [f"{part}_" for part in PARTS if f"{part}_{_IMAGES}" in names]
    if "train_" not in found:
        raise ConfigError(
            f"{file} has the arrays {', '.join(names[:10]) or 'none'}: it must have images and "
            "labels, or train_images and train_labels (and val_ and test_)."
        )
    return found


def _images(file: Path, name: str, stored: Any) -> AnyArray:
    """Return pictures (N, C, H, W)."""
    images: AnyArray = stored[name]
    if images.dtype.kind not in "buif" or images.ndim not in (3, 4) or not images.size:
        raise ConfigError(
            f"{file}: {name} is {images.dtype} {images.shape}; numbers (N, H, W) or (N, H, W, C) "
            "are needed."
        )
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[1] < min(images.shape[2:]):
        raise ConfigError(
            f"{file}: {name} is {images.dtype} {images.shape}, which looks like (N, C, H, W); "
            "(N, H, W, C) is needed: save images.transpose(0, 2, 3, 1)."
        )
    if images.dtype.kind == "b":
        images = images.astype(np.uint8) * np.uint8(255)
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)


def _labels(file: Path, name: str, stored: Any, several: bool) -> AnyArray:
    """Return labels (N,), or (N, K) of several a picture."""
    if name not in stored.files:
        raise ConfigError(f"{file} has no array {name}.")
    labels: AnyArray = stored[name]
    if several:
        if labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all():
            return labels
        needed = "numbers (N, K) of 0 and 1 are needed with data.target=multi"
    else:
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim == 1 and labels.dtype.kind in "iuUb":
            return labels
        needed = "one whole number or text for each picture is needed"
    raise ConfigError(f"{file}: {name} is {labels.dtype} {labels.shape}; {needed}.")


def _classes(
    file: Path, labels: AnyArray, parts: AnyArray | None, several: bool
) -> tuple[tuple[str, ...], AnyArray, list[str]]:
    """Return the names of the classes, the targets as a source has them, and remarks."""
    if several:
        there: BoolArray = np.asarray(labels.any(axis=0))
        numbers = np.arange(len(there)).astype(str)
        if there.sum() < 2:
            raise ConfigError(
                f"{file}: a classifier needs at least 2 labels, and pictures have {there.sum()}."
            )
        never = ", ".join(numbers[~there])
        remarks = [f"has labels that no picture has, and leaves out: {never}"] if never else []
        return tuple(numbers[there].tolist()), labels[:, there].astype(np.uint8), remarks
    written = [str(label) for label in labels.tolist()]
    names = [clean_label(label) for label in written]
    if fault := next(filter(None, map(text_fault, set(names))), None):
        raise ConfigError(f"{file}: a label has {fault}.")
    if "" in names:
        raise ConfigError(f"{file}: the label of picture {names.index('')} is empty.")
    return named_classes(str(file), [(name,) for name in names], parts, written)
