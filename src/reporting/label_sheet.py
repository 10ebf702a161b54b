"""A contact sheet of pictures with the labels that a network gave them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.reporting.contact_sheets import Cell, sheet
from src.reporting.guesses import GuessSample
from src.reporting.style import INK, MUTED, WARNING, plain_labels

__all__ = ["label_sheet"]

_UNSURE = 0.5  # a label less probable than this is more likely wrong than right


def label_sheet(sample: GuessSample, read: Callable[[str], NDArray[np.uint8]]) -> Figure:
    """A sample's pictures with label and probability, in red where it is more likely wrong.

    Args:
        sample: of at least one guess.
        read: path -> picture (C, H, W) uint8.
    """
    unsure, others = sample.least_certain, sample.others
    title = f"All {sample.count} pictures, the least certain first"
    if len(unsure) + len(others) < sample.count:
        title = (
            f"The {len(unsure)} least certain of {sample.count:,} pictures, "
            f"then {len(others)} drawn from the others"
        )
    names = sample.class_names
    labels = dict(zip(names, plain_labels(names, longest=13), strict=True))
    cells = []
    for guess in (*unsure, *others):
        color = WARNING if guess.probability < _UNSURE else INK
        caption = ((labels[guess.label], color), (f"{guess.probability:.0%}", MUTED))
        cells.append(Cell(read(guess.path), caption))
    return sheet(cells, title, columns=10)
