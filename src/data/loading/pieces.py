"""Random pieces of large pictures with masks, so that networks see them at their full size."""

from __future__ import annotations

import math

import numpy as np
import torch

from ...machine.arrays import Int64Array, UInt8Array
from ...records.pictures import Pixels
from ..decoding.picture_store import PictureStore
from ..randomness import derive_seed, uniforms

__all__ = ["Pieces"]

# The share of pieces around a pixel of a rarer class, and how such a pixel is drawn, are those of
# nnU-Net: Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical
# image segmentation" (Nature Methods 2021), where a third of a batch holds foreground for sure.
_SHARE_OF_RARE = 1 / 3
# Makes the draws of a place independent of those of the augmentation.
_PLACE_KEY = 0x7069656365
_RARE, _CLASS, _PIXEL, _TOP, _LEFT, _DRAWS = range(6)


class Pieces:
    """Pieces of pictures, each a function of (seed, epoch, number of the piece).

    An epoch has as many pieces of a picture as cover its area once, one at least. A third of them
    are centred on a pixel of one of the picture's classes, each as likely, the most frequent class
    of all these pictures left out; the others lie anywhere.

    Args:
        pictures: of different sizes, at least that of a piece, with masks.
        ids: (n,) int64, the pictures that pieces are taken from, n at least 1.
        seed: of the run.

    Attributes:
        picture: (P,) int64, the picture of each piece of an epoch.
    """

    def __init__(self, pictures: PictureStore, ids: Int64Array, seed: int) -> None:
        if pictures.places is None:
            raise ValueError("pieces are taken of pictures that keep their size")
        self._read, self._read_mask = pictures.read, pictures.read_mask
        self._size, self._places = pictures.image_size, pictures.places
        self._sizes, self._seed = pictures.array_sizes, derive_seed(seed, _PLACE_KEY)
        covered = self._sizes[ids].prod(axis=1) / math.prod(self._size)
        self.picture = np.repeat(ids, np.maximum(1, np.rint(covered)).astype(np.int64))
        self._frequent = int(self._places.counts[ids].sum(axis=0).argmax())

    def __len__(self) -> int:
        return len(self.picture)

    def __call__(self, epoch: int, pieces: Int64Array) -> tuple[Pixels, UInt8Array]:
        """Return pieces (B, C, h, w) of an epoch, by number, and their classes (B, h, w)."""
        height, width = self._size
        images, masks = [], []
        known: dict[int, tuple[Pixels, UInt8Array]] = {}  # decoding takes a while
        for index, (top, left) in zip(
            self.picture[pieces].tolist(), self.corners(epoch, pieces).tolist(), strict=True
        ):
            if index not in known:
                known[index] = self._read(index), self._read_mask(index)
            image, mask = known[index]
            images.append(image[:, top : top + height, left : left + width])
            masks.append(mask[top : top + height, left : left + width])
        return np.stack(images), np.stack(masks)

    def corners(self, epoch: int, pieces: Int64Array) -> Int64Array:
        """Return the (B, 2) top and left of pieces of an epoch, by number."""
        draws = uniforms(self._seed, epoch, torch.from_numpy(pieces), _DRAWS).double().numpy()
        pictures = self.picture[pieces]
        room = self._sizes[pictures] - np.array(self._size)
        found = (draws[[_TOP, _LEFT]].T * (room + 1)).astype(np.int64)
        for row in np.flatnonzero(draws[_RARE] < _SHARE_OF_RARE).tolist():
            picture = int(pictures[row])
            present = np.flatnonzero(self._places.counts[picture])
            rarer = present[present != self._frequent]
            if not len(rarer):
                continue
            chosen = int(rarer[int(draws[_CLASS, row] * len(rarer))])
            places = self._places.of_class(picture, chosen)
            pixel = int(places[int(draws[_PIXEL, row] * len(places))])
            centre = np.array(divmod(pixel, int(self._sizes[picture, 1])))
            found[row] = (centre - np.array(self._size) // 2).clip(0, room[row])
        return found
