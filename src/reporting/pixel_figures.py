"""Figures and the CSV table of predicted class maps: the worst pictures, and IoU by class."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from ..machine.arrays import AnyArray, UInt8Array
from ..machine.text import csv_text
from ..metrics.class_maps import PixelScores, class_pixel_scores, pixel_sums
from ..records.pictures import Pixels
from ..records.run import Predictions
from ..storage.files import write_atomically
from .class_figures import class_bars, confusion_figure, score_cell
from .contact_sheets import MapRow, class_map_sheet
from .style import INK, plain_labels, save_as

__all__ = ["draw_pixels", "pixel_figure", "pixel_table"]

_MOST_SHOWN = 12
_MOST_ROWS = 50
# Pixels of a side from which on figures leave some out.
_LONGEST_SIDE = 512
_COLUMNS = (
    *("class", "pictures", "share_of_pixels", "iou", "iou_low", "iou_high", "dice", "precision"),
    "recall",
)


def draw_pixels(
    folder: Path,
    part: str,
    predicted: Predictions,
    read: Callable[[int], Pixels],
    read_mask: Callable[[int], UInt8Array],
) -> Iterator[Path]:
    """Draw the pictures with the most wrong pixels and the classes, and write their table.

    Args:
        folder: where to.
        part: that was predicted.
        predicted: of kind "dense", with class maps.
        read, read_mask: return the picture (C, H, W) and the classes (H, W) of a sample id, of
            the same size as the maps.

    Yields:
        The path of each file once it is written.
    """
    saved, names = partial(save_as, folder), predicted.class_names
    matrices = predicted.probs["matrix"]
    sums = pixel_sums(matrices)
    wrong = 1 - (sums.above / np.maximum(sums.below, 1))[:, 0]
    rows = []
    for row in np.argsort(-wrong, kind="stable")[:_MOST_SHOWN].tolist():
        index = int(predicted.sample_ids[row])
        answer = np.array(Image.open(io.BytesIO(predicted.probs["map"][row])), np.uint8)
        image, mask, found = (_thinned(one) for one in (read(index), read_mask(index), answer))
        rows.append(MapRow(image, mask, found, float(wrong[row]), predicted.name(row)))
    yield saved(class_map_sheet(rows, names), f"{part}_mistakes")
    scores = class_pixel_scores(matrices, names, predicted.groups)
    yield saved(pixel_figure(scores), f"{part}_classes")
    yield saved(
        confusion_figure(matrices.sum(axis=0), names, of="pixels"), f"{part}_confusion_matrix"
    )
    table = folder / f"{part}_classes.csv"
    write_atomically(table, pixel_table(scores))
    yield table


def _thinned(array: AnyArray) -> AnyArray:
    """Return every so manyth row and column of (..., H, W), few enough for a figure."""
    step = max(1, max(array.shape[-2:]) // _LONGEST_SIDE)
    return array[..., ::step, ::step]


def pixel_table(scores: Sequence[PixelScores]) -> str:
    """Return a row for each class as CSV; what is not defined is an empty cell."""
    rows = (
        (
            *(one.name, one.pictures, f"{one.share:.6f}"),
            *map(score_cell, (one.iou, one.low, one.high, one.dice, one.precision, one.recall)),
        )
        for one in scores
    )
    return csv_text(_COLUMNS, rows)


def pixel_figure(scores: Sequence[PixelScores]) -> Figure:
    """Draw the IoU of each class with its 95 % interval, the lowest first.

    Of more than 50 classes those are drawn that come first.
    """
    known = [one for one in scores if not math.isnan(one.iou)]
    drawn = sorted(known, key=lambda one: one.iou)[:_MOST_ROWS]
    labels = plain_labels([one.name for one in drawn])
    names = [f"{label} ({one.pictures:,})" for label, one in zip(labels, drawn, strict=True)]
    title = "IoU with 95 % interval, and the pictures that hold each class"
    figure, axes, places = class_bars(names, [one.iou for one in drawn], title)
    for place, one in zip(places.tolist(), drawn, strict=True):
        if not math.isnan(one.low):
            axes.plot([one.low, one.high], [place, place], color=INK, lw=1.4)
    return figure
