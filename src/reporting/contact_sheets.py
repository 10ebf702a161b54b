"""Contact sheets: pictures side by side, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.reporting.style import HEAT, INK, WARNING, new_figure, plain_labels

__all__ = ["Caption", "Cell", "batch_sheet", "confident_mistakes", "mistakes_sheet", "sheet"]

_CELL_INCHES = 1.25
_TITLE_INCHES = 0.5
_CAPTION_INCHES = 0.17  # height of a line of text
_PADDING = 0.08

# Lines of a caption: (text, colour).
Caption = Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Cell:
    """One picture of a sheet.

    Attributes:
        image: (C, H, W) uint8.
        caption: lines below it.
        heat: (H, W) in [0, 1], laid over a grey version of it; None for the picture as it is.
    """

    image: NDArray[np.uint8]
    caption: Caption = ()
    heat: NDArray[np.floating] | None = None


def confident_mistakes(
    probs: NDArray[np.floating], targets: NDArray[np.int64], limit: int = 24
) -> NDArray[np.int64]:
    """Which samples are wrong, the surest first: positions, at most `limit` of them.

    Args:
        probs: (N, K) probabilities.
        targets: (N,) in [0, K).
        limit: how many are worth looking at.
    """
    wrong = np.flatnonzero(probs.argmax(axis=1) != targets)
    order = np.argsort(-probs[wrong].max(axis=1), kind="stable")
    return wrong[order][:limit]


def mistakes_sheet(
    images: NDArray[np.uint8],
    probs: NDArray[np.floating],
    targets: NDArray[np.int64],
    class_names: Sequence[str],
) -> Figure:
    """The most confident mistakes: wrong labels, ambiguous pictures and blind spots show here.

    Args:
        images: (M, C, H, W) uint8, the pictures at `confident_mistakes`; M may be 0.
        probs: (M, K) their probabilities.
        targets: (M,) their targets.
        class_names: K names.
    """
    labels = plain_labels(class_names, longest=13)
    cells = [
        Cell(image, ((f"{labels[p.argmax()]} {p.max():.0%}", WARNING), (f"is {labels[t]}", INK)))
        for image, p, t in zip(images, probs, targets, strict=True)
    ]
    return sheet(cells, "Most confident mistakes" if cells else "There are no mistakes", columns=6)


def batch_sheet(
    images: NDArray[np.uint8],
    targets: NDArray[np.int64] | None = None,
    class_names: Sequence[str] = (),
    title: str = "Training pictures as the network sees them",
) -> Figure:
    """A batch of pictures as a grid, eight to a row, at most the first 64.

    Args:
        images: (B, C, H, W) uint8.
        targets: (B,) class indices for the captions, or None for no captions.
        class_names: K names; needed where there are targets.
        title: what the pictures are.
    """
    images = images[:64]
    captions: list[Caption] = [()] * len(images)
    if targets is not None:
        labels = plain_labels(class_names, longest=13)
        captions = [((labels[t], INK),) for t in targets[: len(images)]]
    return sheet([Cell(*pair) for pair in zip(images, captions, strict=True)], title, columns=8)


def sheet(
    cells: Sequence[Cell | None], title: str, columns: int, inches: float = _CELL_INCHES
) -> Figure:
    """Pictures of any sizes in rows, under a title.

    All of them stand on one pair of axes measured in cells: axes of their own would take seconds.

    Args:
        cells: row by row; None leaves a gap.
        title: what they are.
        columns: the most to a row.
        inches: width of a cell.
    """
    columns = max(4, min(columns, len(cells)))  # wide enough for the title
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    filled = [cell for cell in cells if cell is not None]
    shapes = [cell.image.shape[1] / cell.image.shape[2] for cell in filled]
    picture = float(np.clip(max(shapes, default=1), 0.3, 2))  # its height, in cells
    line = _CAPTION_INCHES / inches
    lines = [
        max((len(cell.caption) for cell in row if cell is not None), default=0) for row in rows
    ]
    tops = np.cumsum([0.0, *(picture + line * count + _PADDING for count in lines)])
    figure = new_figure(columns * inches, tops[-1] * inches + _TITLE_INCHES, arranged=False)
    above = _TITLE_INCHES / figure.get_figheight()
    heading: dict[str, Any] = {"va": "center", "fontsize": 11, "fontweight": "bold", "color": INK}
    figure.text(_PADDING / columns, 1 - above / 2, title, **heading)
    axes = figure.add_axes((0, 0, 1, 1 - above))
    axes.set_axis_off()
    for top, row in zip(tops, rows, strict=False):
        for column, cell in enumerate(row):
            if cell is None:
                continue
            _draw_picture(axes, cell, column + 0.5, top + picture / 2, picture - _PADDING)
            for number, (text, color) in enumerate(cell.caption):
                y = top + picture + line * (number + 0.3)
                style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5}
                axes.text(column + 0.5, y, text, color=color, **style)
    # Last, because imshow moves the limits and forces its own aspect.
    axes.set(xlim=(0, columns), ylim=(max(tops[-1], 1e-3), 0), aspect="auto")
    return figure


def _draw_picture(axes: Axes, cell: Cell, x: float, y: float, most_height: float) -> None:
    """Draw a picture around (x, y), as large as its cell and proportions allow."""
    channels, height, width = cell.image.shape
    # Three channels are a colour picture; of any other number the mean is the fairest grey.
    coloured = channels == 3 and cell.heat is None
    pixels = cell.image.transpose(1, 2, 0) if coloured else cell.image.mean(axis=0)
    half_width = min(1 - _PADDING, most_height * width / height) / 2
    half_height = half_width * height / width
    extent = (x - half_width, x + half_width, y + half_height, y - half_height)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=extent)
    if cell.heat is not None:
        heat: dict[str, Any] = {"cmap": HEAT, "vmin": 0, "vmax": 1, "interpolation": "bilinear"}
        axes.imshow(cell.heat, alpha=0.6, extent=extent, **heat)
