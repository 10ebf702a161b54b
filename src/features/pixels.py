"""Pixels as samples: features of every pixel, a sample of them, and the classifier fitted to it.

What ilastik calls pixel classification (Berg et al., "ilastik: interactive machine learning for
(bio)image analysis", Nature Methods 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from ..records.pictures import Pixels
from .calibration import CalibratedModel
from .descriptors.picture import Floats

__all__ = ["PixelFeatures", "PixelSample", "draw_pixels", "fit_pixels"]

Integers = NDArray[np.int64]
Masks = NDArray[np.uint8]


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
    on_gpu: ClassVar[bool] = False

    @property
    def identity(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def in_processes(self) -> bool:
        return True

    def __call__(self, images: Pixels) -> Floats:
        """Return (N, H, W, D) float32 of pictures (N, C, H, W) in [0, 255]."""
        from skimage.feature import multiscale_basic_features

        scaled = images.astype(np.float32) / np.float32(255)
        found = [
            multiscale_basic_features(picture, channel_axis=0, workers=1, **self.identity)
            for picture in scaled
        ]
        return np.stack(found).astype(np.float32, copy=False)


class PixelSample(NamedTuple):
    """Pixels drawn from pictures, and the classes that they are drawn from.

    Attributes:
        features: (M, D) float32.
        targets: (M,) int64 in [0, K).
        pictures: (M,) int64, the number of the picture that each is from.
        counts: (K,) int64, all pixels of each class in the pictures.
    """

    features: Floats
    targets: Integers
    pictures: Integers
    counts: Integers


def draw_pixels(
    features: Callable[[Pixels], Floats],
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
    pictures. Memory is that of the sample and of one picture's features.

    Args:
        features: of pictures (1, C, H, W), (1, H, W, D).
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
        rng, mask = np.random.default_rng([seed, one]), read_mask(one).ravel()
        places = [
            rng.choice(np.flatnonzero(mask == k), number, replace=False)
            for k, number in enumerate(numbers)
        ]
        described = features(read(one)[None])[0]
        rows.append(described.reshape(-1, described.shape[-1])[np.concatenate(places)])
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
    contents = sample.pictures
    if (contents == contents[0]).all():  # one picture: pixels of its own must do
        contents = np.arange(len(contents))
    model = CalibratedModel.fit(
        lambda count: Pipeline([("classify", make(count))]),
        sample.features,
        sample.targets,
        contents,
        num_classes=len(sample.counts),
        folds=folds,
        seed=seed,
    )
    drawn = np.bincount(sample.targets, minlength=len(sample.counts))[model.classes]
    move = np.log(sample.counts[model.classes] / drawn)
    calibration = model.calibration
    shift = calibration.shift + move - move.mean()
    return replace(model, calibration=replace(calibration, shift=shift))


def _class_counts(mask: Masks, classes: int) -> Integers:
    return np.bincount(mask.ravel(), minlength=256)[:classes]
