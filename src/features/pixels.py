"""Pixels as samples: features of every pixel, a sample of them, and the classifier fitted to it.

What ilastik calls pixel classification (Berg et al., "ilastik: interactive machine learning for
(bio)image analysis", Nature Methods 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline

from ..machine.arrays import Float32Array, Int64Array, UInt8Array
from ..records.pictures import Pixels
from .calibration import CalibratedModel

__all__ = ["PixelFeatures", "PixelSample", "blocks_of", "fit_pixels", "sample_pixels"]

Masks = UInt8Array
# The features of a block of a picture (C, H, W): rows and columns to (h, w, D).
Describe = Callable[[Pixels, slice, slice], Float32Array]
# Features of more pixels are not computed at once: each takes some 200 bytes meanwhile.
_PIXELS_AT_ONCE = 2**20
_BLOCK = 512
# Deviations at which scikit-image cuts a Gaussian off, and further pixels that derivatives take.
_TRUNCATED, _DERIVATIVES = 4.0, 2


@dataclass(frozen=True)
class PixelFeatures:
    """Intensity, edges and texture around every pixel, each channel blurred by several Gaussians.

    Those of scikit-image's `multiscale_basic_features`: the blurred value, the length of its
    gradient, and the eigenvalues of its Hessian.

    Args:
        sigma_min, sigma_max: deviations in pixels of the narrowest and of the widest Gaussian; each
            is about twice the one before.
        intensity, edges, texture: which of them; at least one.
    """

    sigma_min: float
    sigma_max: float
    intensity: bool = True
    edges: bool = True
    texture: bool = True
    name: ClassVar[str] = "pixels"
    in_processes: ClassVar[bool] = True
    on_gpu: ClassVar[bool] = False

    @property
    def identity(self) -> dict[str, Any]:
        return asdict(self)

    def __call__(self, images: Pixels) -> Float32Array:
        """Return (N, H, W, D) float32 of pictures (N, C, H, W) in [0, 255]."""
        from skimage.feature import multiscale_basic_features

        scaled = images.astype(np.float32) / np.float32(255)
        found = [
            multiscale_basic_features(picture, channel_axis=0, workers=1, **self.identity)
            for picture in scaled
        ]
        return np.stack(found).astype(np.float32, copy=False)

    def of_block(self, picture: Pixels, rows: slice, columns: slice) -> Float32Array:
        """Return (h, w, D) float32 of a block of a picture (C, H, W), as within the whole."""
        around = math.ceil(_TRUNCATED * self.sigma_max) + _DERIVATIVES + 1
        top, left = max(0, rows.start - around), max(0, columns.start - around)
        part = picture[:, top : rows.stop + around, left : columns.stop + around]
        (found,) = self(part[None])
        block: Float32Array = found[rows.start - top :, columns.start - left :]
        return block[: rows.stop - rows.start, : columns.stop - columns.start]


class PixelSample(NamedTuple):
    """Pixels drawn from pictures, and the classes that they are drawn from.

    Attributes:
        features: (M, D) float32.
        targets: (M,) int64 in [0, K).
        pictures: (M,) int64, the number of the picture, or of the group, that each is from.
        counts: (K,) int64, all pixels of each class in the pictures.
    """

    features: Float32Array
    targets: Int64Array
    pictures: Int64Array
    counts: Int64Array


def blocks_of(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the blocks that a picture is described in: one, unless it is large.

    Together they have every pixel once.
    """
    side = max(height, width) if height * width <= _PIXELS_AT_ONCE else _BLOCK
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def sample_pixels(
    describe: Describe,
    read: Callable[[int], Pixels],
    read_mask: Callable[[int], Masks],
    ids: Sequence[int],
    *,
    num_classes: int,
    most: int,
    seed: int,
) -> PixelSample:
    """Draw pixels of pictures, of each class alike many as far as there are as many.

    Every picture gives its share of each class: rare classes are seen in full, frequent ones in all
    pictures. Memory is that of the sample and of the features of one block.

    Args:
        describe: returns the features of a block of a picture.
        read, read_mask: picture (C, H, W) and classes (H, W) of a number of `ids`; pixels with a
            class of `num_classes` or above are left out.
        num_classes: K.
        most: pixels to draw in all.
        seed: of the draw, which depends on it and on the picture's number.

    Raises:
        ValueError: the pictures have pixels of fewer than two classes.
    """
    counts = np.stack([_class_counts(read_mask(one), num_classes) for one in ids])
    total = counts.sum(axis=0)
    present = np.count_nonzero(total)
    if present < 2:
        raise ValueError("the training part has pixels of one class only")
    # Of each class a share of its pixels, rounded so that the shares of all pictures add up.
    share = np.minimum(1.0, most / present / np.maximum(total, 1))
    wanted = np.diff(np.rint(counts.cumsum(axis=0) * share), axis=0, prepend=0).astype(np.int64)
    rows, targets, pictures = [], [], []
    for one, numbers in zip(ids, wanted, strict=True):
        if not numbers.any():
            continue
        rng, mask = np.random.default_rng([seed, one]), read_mask(one)
        places = [
            rng.choice(np.flatnonzero(mask == k), number, replace=False)
            for k, number in enumerate(numbers)
        ]
        rows.append(_features_at(describe, read(one), np.concatenate(places)))
        targets.append(np.repeat(np.arange(num_classes), numbers))
        pictures.append(np.full(numbers.sum(), one))
    return PixelSample(
        np.concatenate(rows), np.concatenate(targets), np.concatenate(pictures), total
    )


def fit_pixels(
    make: Callable[[int], Any], sample: PixelSample, *, folds: int, seed: int
) -> CalibratedModel:
    """Return a classifier fitted to drawn pixels, with probabilities for pixels as they occur.

    It is calibrated on pixels of pictures that it was not fitted to, and then moved from the even
    classes of the sample to the shares of all pixels, as Elkan, "The Foundations of Cost-Sensitive
    Learning" (IJCAI 2001), derives it: otherwise rare classes would be found everywhere.

    Args:
        make: an estimator that is not fitted, given the number of pixels it will be fitted to.
        folds, seed: as of `CalibratedModel.fit`.
    """
    model = CalibratedModel.fit(
        lambda count: Pipeline([("classify", make(count))]),
        sample.features,
        sample.targets,
        sample.pictures,  # of a single one, pixels of its own must do
        num_classes=len(sample.counts),
        folds=folds,
        seed=seed,
    )
    drawn = np.bincount(sample.targets, minlength=len(sample.counts))[model.classes]
    move = np.log(sample.counts[model.classes] / drawn)
    calibration = model.calibration
    shift = calibration.shift + move - move.mean()
    return replace(model, calibration=replace(calibration, shift=shift))


def _features_at(describe: Describe, picture: Pixels, places: Int64Array) -> Float32Array:
    """Return (n, D) of pixels of a picture, by their numbers row by row."""
    y, x = np.divmod(places, picture.shape[2])
    found: Float32Array | None = None
    for rows, columns in blocks_of(*picture.shape[1:]):
        inside = (y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)
        if inside.any():
            block = describe(picture, rows, columns)
            if found is None:
                found = np.empty((len(places), block.shape[-1]), np.float32)
            found[inside] = block[y[inside] - rows.start, x[inside] - columns.start]
    assert found is not None
    return found


def _class_counts(mask: Masks, classes: int) -> Int64Array:
    return np.bincount(mask.ravel(), minlength=256)[:classes]
