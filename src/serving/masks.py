"""Masks that a predictor of pixels answers with, each in the size of its picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, tee
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.decoding.decode import shown_size
from ..data.decoding.mask_files import LEFT_OUT
from ..data.decoding.picture_files import PictureError
from ..data.decoding.picture_format import PictureFormat
from ..data.sources.source import Problem
from ..machine.arrays import Float32Array, Float64Array, UInt8Array
from ..targets.kind import TargetKind
from .file_pages import Page
from .inputs import named_picture
from .predictor import Decoded, Predictor

__all__ = [
    "PredictedMask",
    "class_shares",
    "mask_uncertainty",
    "masks_of",
    "predicted_masks",
    "restored",
]

# Pictures that are answered at once: each has as many probabilities as pixels and classes.
_AT_ONCE = 8
# Pixels of a picture's own for which probabilities are held at once.
_STRIP_PIXELS = 1_000_000

Mask = UInt8Array


class _Answer(NamedTuple):
    """A mask (H, W), and the probabilities (K, h, w) that it is restored from."""

    mask: Mask
    probs: Float32Array


class PredictedMask(NamedTuple):
    """A picture file and the prediction of a model for its pixels.

    Attributes:
        path: of the file.
        classes: (H, W) of the pixels, 255 where the model saw nothing.
        uncertainty: how much the true mask would teach, see `TargetKind.uncertainties`.
    """

    path: str
    classes: Mask
    uncertainty: float


def predicted_masks(
    predictor: Predictor, files: Iterable[Path]
) -> Iterator[PredictedMask | Problem]:
    """Yield the mask of each file in order, or a `Problem` for one that cannot be read.

    Raises:
        DamagedModel: as `Predictor.probabilities`.
    """
    named, pictures = tee(files)
    for file, found in zip(named, _masks(predictor, pictures)):
        if isinstance(found, PictureError):
            yield Problem(str(file), str(found))
        else:
            uncertainty = mask_uncertainty(predictor.kind, found.probs)
            yield PredictedMask(str(file), found.mask, uncertainty)


def masks_of(
    predictor: Predictor, rows: Iterable[object], left_out: dict[int, Problem] | None = None
) -> Iterator[Mask]:
    """Yield the masks of pictures, each as `as_picture` takes it or the path of a file.

    Files that cannot be read have none where there is `left_out`, as of `Predictor.judge_all`.

    Threads that ask one predictor decode together what a limit of memory allows, and answer one
    after another about large pictures of whose pixels much is kept.

    Raises:
        ValueError: names the first row, counted from 0, or the file, that is no picture.
        DamagedModel: as `Predictor.probabilities`.
    """
    named, values = tee(rows)
    for row, (value, found) in enumerate(zip(named, _masks(predictor, values))):
        with named_picture(row, value):
            if isinstance(found, PictureError):
                if left_out is None or not isinstance(value, Path | Page):
                    raise found
                left_out[row] = Problem(str(value), str(found))
                continue
        yield found.mask


def _masks(predictor: Predictor, values: Iterable[object]) -> Iterator[_Answer | PictureError]:
    """Yield the answer for each picture, or why it has none."""
    waiting = iter(values)
    if predictor.values:
        for value in waiting:
            with predictor.room_for(value):
                (found,) = _answers(predictor, [value])
            yield found
    while some := list(islice(waiting, _AT_ONCE)):
        yield from _answers(predictor, some)


def _answers(predictor: Predictor, values: Sequence[object]) -> Iterator[_Answer | PictureError]:
    """Yield what `_masks` does of pictures that are answered at once."""
    decoded: list[Decoded | PictureError] = []
    with predictor.decoding(values) as waiting:
        for one in waiting:
            try:
                decoded.append(one.result())
            except PictureError as error:
                decoded.append(error)
    readable = [one for one in decoded if not isinstance(one, PictureError)]
    probs = iter(())
    if readable:
        probs = iter(predictor.probabilities(np.stack([one.pixels[0] for one in readable])))
    for found in decoded:
        if isinstance(found, PictureError):
            yield found
        else:
            own = found.picture
            size = shown_size(*own[:2] if isinstance(own, Page) else (own,))
            form = predictor.formats[0]
            of_one: Float32Array = next(probs)
            seen, _ = _without_added(of_one, size, form)
            yield _Answer(restored(of_one, size, form), seen)


def restored(probs: Float32Array, size: tuple[int, int], form: PictureFormat) -> Mask:
    """Return the most probable classes (H, W) of a picture's own pixels.

    Probabilities are enlarged or reduced before the class is chosen, so that borders are smooth;
    strip by strip, so that memory beside the mask does not grow with the picture.

    Args:
        probs: (K, h, w) of the picture as the model takes it.
        size: (H, W) of the picture.
        form: that the model takes it in: what `pad` and `windows` added is cut away, and what
            `crop` cut off has the class 255.
    """
    probs, (top, left, inner_height, inner_width) = _without_added(probs, size, form)
    mask = np.full(size, LEFT_OUT, np.uint8)
    inner = mask[top : top + inner_height, left : left + inner_width]
    lines = max(1, _STRIP_PIXELS // inner_width)
    for first in range(0, inner_height, lines):
        strip = inner[first : first + lines]
        highest = np.full(strip.shape, -1.0, np.float32)
        for k, plane in enumerate(probs):
            sized = _sized_lines(plane, inner.shape, first, len(strip))
            strip[sized > highest] = k
            np.maximum(highest, sized, out=highest)
    return mask


def mask_uncertainty(kind: TargetKind, probs: Float32Array) -> float:
    """Return the uncertainty of a picture, of the probabilities (K, h, w) of its pixels.

    It is computed strip by strip, so that memory does not grow with the picture.
    """
    height, width = probs.shape[1:]
    lines = max(1, _STRIP_PIXELS // width)
    strips = [probs[None, :, first : first + lines] for first in range(0, height, lines)]
    return sum(float(kind.uncertainties(one)[0]) * one.shape[2] for one in strips) / height


def _without_added(
    probs: Float32Array, size: tuple[int, int], form: PictureFormat
) -> tuple[Float32Array, tuple[int, int, int, int]]:
    """Return the probabilities without those of what was added, and the part that they are of.

    The part is top, left, height and width in the picture's own pixels. Arguments as of `restored`.
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
    return probs, (top, left, inner_height, inner_width)


def _sized_lines(
    plane: Float32Array, size: tuple[int, ...], first: int, lines: int
) -> Float32Array:
    """Return so many lines (lines, W), from `first` on, of a plane (h, w) resized to `size`."""
    ratio = len(plane) / size[0]
    reach = math.ceil(max(1.0, ratio)) + 1  # of what lies around, as far as interpolation sees
    upper, lower = first * ratio, min((first + lines) * ratio, len(plane))
    start, end = max(0, math.floor(upper) - reach), math.ceil(lower) + reach
    image = Image.fromarray(np.ascontiguousarray(plane[start:end], np.float32))
    box = (0, upper - start, image.width, lower - start)
    return np.asarray(image.resize((size[1], lines), Image.Resampling.BILINEAR, box))


def class_shares(mask: Mask, classes: int) -> Float64Array:
    """Return (K,) the share of each class among the pixels that have one."""
    counts = np.array(Image.fromarray(mask).histogram()[:classes])  # bincount makes 8 bytes a pixel
    shares: Float64Array = counts / max(1, int(counts.sum()))
    return shares
