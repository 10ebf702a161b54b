"""Where in its pictures a network sees the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.reporting.contact_sheets import Cell, confident_mistakes, sheet
from src.reporting.style import INK, MUTED, WARNING, plain_labels

__all__ = ["likeliest", "map_sheet", "right_and_wrong", "rivals_sheet"]

_RIVALS_INCHES = 1.6  # width of a picture of unknown content, which deserves a closer look
_COLUMNS = 6  # a right picture takes two cells, a mistake three: rows of six hold either


def right_and_wrong(
    probs: NDArray[np.floating], targets: NDArray[np.int64], right: int = 6, wrong: int = 12
) -> NDArray[np.int64]:
    """Samples to look into: right ones of different classes, then the surest mistakes.

    Args:
        probs: (N, K) probabilities.
        targets: (N,) in [0, K).
        right, wrong: how many at most.

    Returns:
        Their positions.
    """
    hits = np.flatnonzero(probs.argmax(axis=1) == targets)
    of_each_class = hits[np.unique(targets[hits], return_index=True)[1]]
    count = min(right, len(of_each_class))
    spread = np.linspace(0, len(of_each_class) - 1, count).round().astype(np.int64)
    return np.concatenate([of_each_class[spread], confident_mistakes(probs, targets, wrong)])


def map_sheet(
    images: NDArray[np.uint8],
    maps: NDArray[np.floating],
    probs: NDArray[np.floating],
    targets: NDArray[np.int64],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Right pictures with where their class is seen, then mistakes with where either class is.

    Args:
        images: (M, C, H, W) uint8.
        maps: (M, 2, H, W) in [0, 1], of the predicted class and of the target.
        probs: (M, K) probabilities of the whole pictures.
        targets: (M,) their targets.
        class_names: K names.
        title: what the maps are.
    """
    labels = plain_labels(class_names, longest=13)
    preds = probs.argmax(axis=1)
    cells: list[Cell | None] = []
    for is_right in (True, False):
        for i in np.flatnonzero((preds == targets) == is_right):
            said = f"{labels[preds[i]]} {probs[i, preds[i]]:.0%}"
            told = (
                [(said, INK)] if is_right else [(said, WARNING), (f"is {labels[targets[i]]}", INK)]
            )
            cells.append(Cell(images[i], told))
            seen = preds[i : i + 1] if is_right else (preds[i], targets[i])
            for heat, index in zip(maps[i], seen, strict=False):
                cells.append(Cell(images[i], [(f"{labels[index]} here", MUTED)], heat))
        cells += [None] * (-len(cells) % _COLUMNS)
    return sheet(cells, title, columns=_COLUMNS)


def likeliest(probs: NDArray[np.floating]) -> NDArray[np.int64]:
    """The two most probable classes of each row of (M, K), most probable first: (M, 2)."""
    return np.argsort(-probs, axis=1, kind="stable")[:, :2]


def rivals_sheet(
    images: Sequence[NDArray[np.uint8]],
    maps: NDArray[np.floating],
    probs: NDArray[np.floating],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Pictures of unknown class with where their two most probable ones are seen.

    Args:
        images: M of any size, (C, H, W) uint8.
        maps: (M, 2, h, w) in [0, 1], of the `likeliest` classes; stretched over the pictures.
        probs: (M, K) probabilities.
        class_names: K names.
        title: what the maps are.
    """
    labels = plain_labels(class_names)
    cells = []
    for image, heats, p, pair in zip(images, maps, probs, likeliest(probs), strict=True):
        first, second = (f"{labels[index]} {p[index]:.0%}" for index in pair)
        cells.append(Cell(image, [(first, INK), (f"or {second}", MUTED)]))
        for heat, index in zip(heats, pair, strict=True):
            cells.append(Cell(image, [(f"{labels[index]} here", MUTED)], heat))
    return sheet(cells, title, columns=_COLUMNS, inches=_RIVALS_INCHES)
