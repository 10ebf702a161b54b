"""Textures: the energy of waves, and how often grey levels stand beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from skimage.feature import graycomatrix, graycoprops
from skimage.filters import gabor_kernel

from ...machine.arrays import Float32Array
from .picture import cells, luminance

__all__ = ["Gabor", "Haralick"]

_STATISTICS = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
_ANGLES = tuple(np.pi / 4 * np.arange(4))


@dataclass(frozen=True)
class Gabor:
    """Manjunath & Ma, "Texture Features for Browsing and Retrieval of Image Data" (PAMI 1996).

    Args:
        wavelengths: pixels of a wave.
        orientations: directions of waves, evenly spread.
        grid: cells along each side, each with the mean and the deviation of every filter's energy.
    """

    wavelengths: tuple[float, ...]
    orientations: int
    grid: int

    def __call__(self, picture: Float32Array) -> Float32Array:
        """Return (D,) float32 of a picture (H, W, C) in [0, 1]."""
        from scipy.signal import fftconvolve  # takes a moment to import

        grey = luminance(picture)
        found: list[float] = []
        for kernel in _kernels(self.wavelengths, self.orientations):
            reach = [(side // 2, side // 2) for side in kernel.shape]
            around = np.pad(grey, reach, mode="symmetric")
            energy = np.abs(fftconvolve(around, kernel, mode="valid"))
            for cell in cells(energy, self.grid):
                found += [float(cell.mean()), float(cell.std())]
        return np.array(found, np.float32)


@cache
def _kernels(wavelengths: tuple[float, ...], orientations: int) -> list[NDArray[np.complex128]]:
    """Return filters of odd sides, whose response to plain areas is 0."""
    kernels = []
    for wavelength in wavelengths:
        for turn in range(orientations):
            kernel = gabor_kernel(1 / wavelength, theta=np.pi * turn / orientations)
            envelope = np.abs(kernel)
            kernels.append(kernel - envelope * (kernel.sum() / envelope.sum()))
    return kernels


@dataclass(frozen=True)
class Haralick:
    """Haralick, Shanmugam & Dinstein, "Textural Features for Image Classification" (1973).

    Of each statistic the mean and the range over four directions.

    Args:
        levels: grey levels, of equal width.
        distances: pixels between the two of a pair.
    """

    levels: int
    distances: tuple[int, ...]

    def __call__(self, picture: Float32Array) -> Float32Array:
        """Return (distances * 10,) float32 of a picture (H, W, C) in [0, 1]."""
        grey = luminance(picture)
        codes = np.minimum(grey * self.levels, self.levels - 1).astype(np.uint8)
        pairs = graycomatrix(
            codes, self.distances, _ANGLES, levels=self.levels, symmetric=True, normed=True
        )
        found = [graycoprops(pairs, name) for name in _STATISTICS]  # each (distances, 4)
        rows = [row for table in found for row in (table.mean(axis=1), np.ptp(table, axis=1))]
        return np.concatenate(rows).astype(np.float32)
