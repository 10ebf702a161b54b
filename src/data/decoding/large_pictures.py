"""Pictures of different sizes in one file, and where in their masks each class is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...machine.arrays import AnyArray, Int64Array, UInt8Array
from .picture_format import PictureFormat

__all__ = ["ClassPlaces", "SizedArrays", "array_sizes"]

# Pixels of a class and picture that are remembered: enough that pieces around them differ.
_MOST_PLACES = 256


class SizedArrays:
    """N arrays of one dtype and of different shapes, one after another in a file.

    The file is mapped when an array is first asked for; a pickle has its name, not its content.

    Args:
        file: as it was written, array by array.
        dtype: of all arrays.
        shapes: (N, D) int64.
    """

    def __init__(self, file: Path, dtype: str, shapes: Int64Array) -> None:
        self._file, self._dtype, self._shapes = file, dtype, shapes
        self._ends = shapes.prod(axis=1).cumsum()
        self._mapped: AnyArray | None = None

    def __getitem__(self, index: int) -> AnyArray:
        """Return array `index`, read-only."""
        if self._mapped is None:
            self._mapped = np.memmap(self._file, self._dtype, mode="r")
        end, shape = int(self._ends[index]), self._shapes[index].tolist()
        return self._mapped[end - int(np.prod(shape)) : end].reshape(shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}


@dataclass(frozen=True, eq=False)
class ClassPlaces:
    """Some pixels of each class in N masks, evenly among all that there are.

    Attributes:
        counts: (N, K) int64, pixels of each class.
        flat: (M,) int32, numbers of pixels, row by row, of picture after picture and of class
            after class.
    """

    counts: Int64Array
    flat: NDArray[np.int32]

    @classmethod
    def of(cls, found: list[tuple[Int64Array, NDArray[np.int32]]]) -> ClassPlaces:
        """Return those of masks, each as `in_mask` returns it."""
        counts, flat = zip(*found, strict=True)
        return cls(np.stack(counts), np.concatenate(flat))

    @staticmethod
    def in_mask(mask: UInt8Array, classes: int) -> tuple[Int64Array, NDArray[np.int32]]:
        """Return counts (K,) and flat places of the classes in a mask (H, W)."""
        counts = np.bincount(mask.ravel(), minlength=256)[:classes].astype(np.int64)
        order = np.argsort(mask, axis=None, kind="stable")  # of bytes: a pass, no comparisons
        starts, kept = counts.cumsum() - counts, _kept(counts)
        chosen = [
            start + np.arange(n) * count // n
            for start, count, n in zip(starts, counts, kept, strict=True)
            if n
        ]
        places = order[np.concatenate([np.zeros(0, np.int64), *chosen])]
        return counts, places.astype(np.int32)

    def of_class(self, picture: int, number: int) -> NDArray[np.int32]:
        """Return the flat places of a class in a picture; none where it is not there."""
        row = picture * self.counts.shape[1] + number
        end, count = int(self._ends[row]), int(_kept(self.counts[picture, number]))
        return self.flat[end - count : end]

    @cached_property
    def _ends(self) -> Int64Array:
        return _kept(self.counts).ravel().cumsum()


def array_sizes(form: PictureFormat, sizes: Int64Array) -> Int64Array:
    """Return the sizes (N, 2) of the arrays of pictures with these, each height and width."""
    if not form.windowed:
        return np.tile(np.array(form.image_size), (len(sizes), 1))
    return np.array([form.array_size((height, width)) for height, width in sizes.tolist()])


def _kept(counts: Int64Array) -> Int64Array:
    return np.minimum(counts, _MOST_PLACES)
