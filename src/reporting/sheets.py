"""Contact sheets: pictures side by side, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.reporting.canvas import INK, WARNING, new_figure, plain_labels

__all__ = ["batch_sheet", "confident_mistakes", "mistakes_sheet"]

_CELL_INCHES = 1.25
_TITLE_INCHES = 0.5
_CAPTION = 0.17  # height of a line of text, in cells
_PADDING = 0.08

# Lines of a caption: (text, colour).
Caption = Sequence[tuple[str, str]]


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
    captions = [
        ((f"{labels[p.argmax()]} {p.max():.0%}", WARNING), (f"is {labels[t]}", INK))
        for p, t in zip(probs, targets, strict=True)
    ]
    title = "Most confident mistakes" if captions else "There are no mistakes"
    return _sheet(images, captions, title, columns=6)


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
    return _sheet(images, captions, title, columns=8)


def _sheet(
    images: NDArray[np.uint8], captions: Sequence[Caption], title: str, columns: int
) -> Figure:
    """All pictures on one pair of axes measured in cells; axes of their own would take seconds."""
    columns = max(4, min(columns, len(images)))  # wide enough for the title
    rows = -(-len(images) // columns)
    height, width = images.shape[2:]
    picture = float(np.clip(height / width, 0.3, 2))  # its height, in cells
    cell = picture + _CAPTION * max(map(len, captions), default=0) + _PADDING
    figure = new_figure(
        columns * _CELL_INCHES, rows * cell * _CELL_INCHES + _TITLE_INCHES, arranged=False
    )
    above = _TITLE_INCHES / figure.get_figheight()
    heading: dict[str, Any] = {"va": "center", "fontsize": 11, "fontweight": "bold", "color": INK}
    figure.text(_PADDING / columns, 1 - above / 2, title, **heading)
    axes = figure.add_axes((0, 0, 1, 1 - above))
    axes.set_axis_off()
    for position, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(position, columns)
        _draw_picture(axes, image, column + 0.5, row * cell + picture / 2, picture - _PADDING)
        for line, (text, color) in enumerate(caption):
            y = row * cell + picture + _CAPTION * (line + 0.3)
            axes.text(column + 0.5, y, text, ha="center", va="center", fontsize=7.5, color=color)
    # Last, because imshow moves the limits and forces its own aspect.
    axes.set(xlim=(0, columns), ylim=(max(rows, 1e-3) * cell, 0), aspect="auto")
    return figure


def _draw_picture(
    axes: Axes, image: NDArray[np.uint8], x: float, y: float, most_height: float
) -> None:
    """Draw one (C, H, W) picture around (x, y), as large as its cell and proportions allow."""
    channels, height, width = image.shape
    # Three channels are a colour picture; of any other number the mean is the fairest grey.
    pixels = image.transpose(1, 2, 0) if channels == 3 else image.mean(axis=0)
    half_width = min(1 - _PADDING, most_height * width / height) / 2
    half_height = half_width * height / width
    extent = (x - half_width, x + half_width, y + half_height, y - half_height)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=extent)
