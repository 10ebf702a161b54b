"""Masks that a predictor of pixels answers with, each in the size of its picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.decoding.decode import shown_size
from ..data.decoding.masks import LEFT_OUT
from ..data.decoding.picture_files import PictureError
from ..data.decoding.picture_format import PictureFormat
from ..data.sources.source import Problem
from ..records.pictures import Pixels
from .inputs import as_picture, named_picture
from .predictor import Page, Predictor

__all__ = ["PredictedMask", "class_shares", "masks_of", "predicted_masks", "restored"]

# Pictures that are answered at once: each has as many probabilities as pixels and classes.
_AT_ONCE = 8

Mask = NDArray[np.uint8]


class PredictedMask(NamedTuple):
    """A picture file, and the classes (H, W) of its pixels, 255 where the model saw nothing."""

    path: str
    classes: Mask


def predicted_masks(
    predictor: Predictor, files: Iterable[Path | Page]
) -> Iterator[PredictedMask | Problem]:
    """Yield the mask of each file in order, or a `Problem` for one that cannot be read.

    Raises:
        DamagedModel: as `Predictor.probabilities`.
    """

    def read(file: Path | Page) -> tuple[Pixels, tuple[int, int]] | Problem:
        path, page = file if isinstance(file, Page) else (file, 0)
        try:
            return predictor.pixels(file), shown_size(path, page)
        except PictureError as error:
            return Problem(str(file), str(error))

    waiting = iter(files)
    with ThreadPoolExecutor() as pool:
        at_once = 1 if predictor.formats[0].windowed else _AT_ONCE
        while some := list(islice(waiting, at_once)):
            found = list(pool.map(read, some))
            readable = [one for one in found if not isinstance(one, Problem)]
            masks = iter(_masks(predictor, readable))
            for file, one in zip(some, found, strict=True):
                if isinstance(one, Problem):
                    yield one
                else:
                    yield PredictedMask(str(file), next(masks))


def masks_of(predictor: Predictor, rows: Iterable[object]) -> Iterator[Mask]:
    """Yield the masks of pictures, each as `as_picture` takes it or the path of a file.

    Raises:
        ValueError: names the first row, counted from 0, or the file, that is no picture.
        DamagedModel: as `Predictor.probabilities`.
    """
    waiting = enumerate(rows)
    at_once = 1 if predictor.formats[0].windowed else _AT_ONCE
    while some := list(islice(waiting, at_once)):
        decoded = []
        for row, value in some:
            with named_picture(row, value):
                picture = as_picture(value, deep=predictor.deep)
                decoded.append((predictor.pixels(picture), shown_size(picture)))
        yield from _masks(predictor, decoded)


def _masks(
    predictor: Predictor, pictures: Sequence[tuple[Pixels, tuple[int, int]]]
) -> Iterator[Mask]:
    if not pictures:
        return
    probs = predictor.probabilities(np.stack([pixels for pixels, _ in pictures]))
    for one, (_, size) in zip(probs, pictures, strict=True):
        yield restored(one, size, predictor.formats[0])


def restored(probs: NDArray[np.float32], size: tuple[int, int], form: PictureFormat) -> Mask:
    """Return the most probable classes (H, W) of a picture's own pixels.

    Probabilities are enlarged or reduced before the class is chosen, so that borders are smooth.

    Args:
        probs: (K, h, w) of the picture as the model takes it.
        size: (H, W) of the picture.
        form: that the model takes it in: what `pad` and `windows` added is cut away, and what
            `crop` cut off has the class 255.
    """
    height, width = size
    across, down = form.image_size[1] / width, form.image_size[0] / height
    inner_height, inner_width, top, left = height, width, 0, 0
    if form.fit == "pad" and across != down:
        scale = min(across, down)
        rows = max(1, min(form.image_size[0], round(height * scale)))
        columns = max(1, min(form.image_size[1], round(width * scale)))
        above, before = (form.image_size[0] - rows) // 2, (form.image_size[1] - columns) // 2
        probs = probs[:, above : above + rows, before : before + columns]
    elif form.windowed:
        rows, columns = form.scaled_size(size)
        probs = probs[:, :rows, :columns]
    elif form.fit == "crop":
        scale = max(across, down)
        inner_height = min(height, max(1, round(form.image_size[0] / scale)))
        inner_width = min(width, max(1, round(form.image_size[1] / scale)))
        top, left = (height - inner_height) // 2, (width - inner_width) // 2
    best = np.zeros((inner_height, inner_width), np.uint8)
    highest = np.full(best.shape, -1.0, np.float32)
    for k, plane in enumerate(probs):  # one at a time: a picture may be large
        image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
        sized = np.asarray(image.resize((inner_width, inner_height), Image.Resampling.BILINEAR))
        higher = sized > highest
        best[higher], highest[higher] = k, sized[higher]
    mask = np.full(size, LEFT_OUT, np.uint8)
    mask[top : top + inner_height, left : left + inner_width] = best
    return mask


def class_shares(mask: Mask, classes: int) -> NDArray[np.float64]:
    """Return (K,) the share of each class among the pixels that have one."""
    counts = np.bincount(mask.ravel(), minlength=256)[:classes]
    shares: NDArray[np.float64] = counts / max(1, int(counts.sum()))
    return shares
