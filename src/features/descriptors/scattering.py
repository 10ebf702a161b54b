"""Scattering: how much of each wave there is around a place, and how that amount varies in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.fft import fft2, fftfreq, ifft2
from skimage.transform import resize

from ...machine.arrays import Float32Array
from .picture import luminance

__all__ = ["Scattering"]

# Of a wavelet: its frequency in radians a pixel and its width in pixels, both at the finest octave.
_FREQUENCY, _WIDTH = 3 * np.pi / 4, 0.8
# The deviation of the window around a place, in cells.
_WINDOW = 0.4
# Amounts below this share of full contrast are as good as none.
_FLOOR = 0.01
_SMALLEST_CELL = 2


@dataclass(frozen=True)
class Scattering:
    """Bruna & Mallat, "Invariant Scattering Convolution Networks" (PAMI 2013), to the second order.

    The brightness is filtered by Morlet wavelets, and the modulus of what comes out by the wider of
    them again. Each of these planes, and the brightness itself, is averaged around the centre of
    each cell, and the logarithm is taken (Anden & Mallat, "Deep Scattering Spectrum", IEEE Trans.
    Signal Process. 2014): with it, twice the contrast is the same step everywhere.

    Args:
        octaves: sizes of the wavelets, each twice the last; fewer where the widest would not fit
            into a cell.
        orientations: directions of the wavelets, evenly spread over half a turn.
        grid: cells along each side; fewer where they would be smaller than 2x2 pixels.
        side: larger pictures are shrunk, so that no side is longer.
    """

    octaves: int
    orientations: int
    grid: int
    side: int

    def __call__(self, picture: Float32Array) -> Float32Array:
        """Return (D,) float32 of a picture (H, W, C) in [0, 1]: D is cells times planes.

        There are 1 + J L + J (J - 1) / 2 L^2 planes, of J octaves and L orientations.
        """
        grey = luminance(picture)
        size, cells, octaves = self._layout(grey.shape)
        if size != grey.shape:
            grey = resize(grey, size, anti_aliasing=True)
        planes = _planes(grey, octaves, self.orientations)
        down, across = (_windows(side, count) for side, count in zip(size, cells, strict=True))
        amounts = down @ planes @ across.T
        found: Float32Array = np.log(np.maximum(amounts, 0) + _FLOOR).astype(np.float32)
        return found.ravel()

    def mirrored(self, rows: Float32Array, size: tuple[int, int]) -> Float32Array:
        """Return what `__call__` returns of the same pictures mirrored left to right.

        Each wave is that of the mirrored direction then, in the mirrored cell.

        Args:
            rows: (N, D) of the pictures.
            size: (H, W) of the pictures.
        """
        _, cells, octaves = self._layout(size)
        turn = -np.arange(self.orientations) % self.orientations
        pairs = np.add.outer(self.orientations * np.arange(octaves), turn)  # (J, L) of the first
        number = np.arange(self.orientations**2 * octaves * (octaves - 1) // 2)
        order = [np.zeros(1, int), 1 + pairs.ravel()]
        for octave in range(octaves - 1):  # of the second, (L, wider octaves, L)
            block, number = np.split(number, [self.orientations * pairs[octave + 1 :].size])
            waves = block.reshape(self.orientations, -1, self.orientations)
            order.append(1 + pairs.size + waves[turn][:, :, turn].ravel())
        planes = rows.reshape(len(rows), -1, *cells)[:, np.concatenate(order), :, ::-1]
        return planes.reshape(rows.shape)

    def _layout(self, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], int]:
        """Return the size to which pictures (H, W) are shrunk, the cells along it, and octaves."""
        size = min(shape[0], self.side), min(shape[1], self.side)
        down, across = (max(1, min(self.grid, side // _SMALLEST_CELL)) for side in size)
        # The widest wavelet is about 2^octaves pixels wide.
        octaves = max(1, min(self.octaves, round(np.log2(min(size) / min(down, across)))))
        return size, (down, across), octaves


def _planes(grey: Float32Array, octaves: int, orientations: int) -> Float32Array:
    """Return (P, H, W) the brightness, the moduli of its waves, and the moduli of their waves."""
    margin = 2**octaves
    # The picture goes on beyond its edges as in a mirror, so that an edge is no edge.
    around = np.pad(grey, margin, mode="symmetric").astype(np.float32)
    wavelets = _wavelets(around.shape, octaves, orientations)
    first = np.abs(ifft2(fft2(around) * wavelets))
    found = [around[None], *first]
    for octave in range(octaves - 1):
        # What narrow waves left varies slowly: only wider ones find anything in it.
        spectrum = fft2(first[octave])[:, None, None]
        found.append(np.abs(ifft2(spectrum * wavelets[octave + 1 :])).reshape(-1, *around.shape))
    inside = slice(margin, -margin)
    return np.concatenate(found)[:, inside, inside]


@cache
def _wavelets(shape: tuple[int, int], octaves: int, orientations: int) -> Float32Array:
    """Return (J, L, H, W) of each octave and orientation, in the order of `fft2`'s frequencies.

    A Morlet wavelet is a Gaussian about its frequency less one about 0, so that plain areas leave
    nothing; it is real where frequencies are. Its envelope is the longer across its wave the more
    orientations share the half turn.
    """
    # Frequencies a whole turn apart are the same one to pixels.
    turns = 2 * np.pi * np.stack(np.meshgrid((-1, 0, 1), (-1, 0, 1)), axis=-1).reshape(9, 1, 1, 2)
    across = np.meshgrid(*(2 * np.pi * fftfreq(side) for side in shape), indexing="ij")
    frequencies = np.stack(across, axis=-1) + turns  # (9, H, W, 2), down first
    found = np.empty((octaves, orientations, *shape), np.float32)
    for octave in range(octaves):
        width, centre = _WIDTH * 2**octave, _FREQUENCY / 2**octave
        for turn in range(orientations):
            angle = np.pi * turn / orientations
            along = frequencies @ np.array([np.sin(angle), np.cos(angle)])
            over = frequencies @ np.array([np.cos(angle), -np.sin(angle)]) * (orientations / 4)
            wave = np.exp(-((along - centre) ** 2 + over**2) * width**2 / 2).sum(axis=0)
            plain = np.exp(-(along**2 + over**2) * width**2 / 2).sum(axis=0)
            found[octave, turn] = wave - plain * (wave[0, 0] / plain[0, 0])
    return found


@cache
def _windows(side: int, cells: int) -> Float32Array:
    """Return weights (cells, side) of the pixels around each cell's centre; a row sums to 1."""
    cell = side / cells
    centres = (np.arange(cells) + 0.5) * cell - 0.5
    weights = np.exp(-(((np.arange(side) - centres[:, None]) / (_WINDOW * cell)) ** 2) / 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
