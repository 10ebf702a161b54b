"""Contact sheets: mistakes, batches, labels, class maps and suspects as rows of pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import PurePath
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..machine.arrays import AnyArray, Int64Array, IntegerArray, UInt8Array
from ..machine.text import percent
from ..records.pictures import GuessSample, Pixels, Suspect, shown
from ..records.pixel_answers import colours
from ..records.run import Predictions
from .style import HEAT, INK, MUTED, WARNING, families_of, new_figure, plain_labels

__all__ = [
    "MapRow",
    "batch_sheet",
    "class_map_sheet",
    "confident_mistakes",
    "label_sheet",
    "likeliest",
    "map_sheet",
    "mistakes_sheet",
    "right_and_wrong",
    "rivals_sheet",
    "suspects_sheet",
]

_CELL_INCHES = 1.25
_TITLE_INCHES = 0.5
_CAPTION_INCHES = 0.17  # height of a line of text
_LETTERS_AN_INCH = 15.5  # of a legend
_LETTERS = 7.5  # points of those of a caption, or less where it is too wide
_PADDING = 0.08
_UNSURE = 0.5  # a label less probable than this is more likely wrong than right
_RIVALS_INCHES = 1.6  # width of a picture of unknown class, which needs a closer look
_MAP_COLUMNS = 6  # a right picture takes two cells, a mistake three: rows of six hold either
_SUSPECTS = 36
# Of the first colours of `colours`.
_COLOUR_NAMES = ("as it is", "red", "green", "olive", "blue", "purple", "teal", "grey")

# Lines of a caption: (text, colour).
Caption = Sequence[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class _Cell:
    """A picture (C, H, W) of a sheet, with lines of text below it.

    `heat`, (H, W) in [0, 1], is laid over a grey version of it.
    """

    image: Pixels
    caption: Caption = ()
    heat: NDArray[np.floating] | None = None


def confident_mistakes(predicted: Predictions, limit: int = 24) -> Int64Array:
    """Return the rows of wrong answers, one class a picture, the most confident first."""
    preds = predicted.decided
    wrong = np.flatnonzero(preds != predicted.targets)
    order = np.argsort(-predicted.probs[wrong, preds[wrong]], kind="stable")
    return wrong[order][:limit]


def _captions(predicted: Predictions, rows: Int64Array) -> list[Caption]:
    """Return the answer about each picture with its probability, its label if wrong, its file."""
    labels = plain_labels(predicted.class_names, longest=13)
    files = _files([predicted.name(row) for row in rows.tolist()])
    targets, found = predicted.targets, list[Caption]()
    for row, answer, file in zip(rows, predicted.decided[rows], files, strict=True):
        answered = f"{labels[answer]} {percent(predicted.probs[row, answer], 0)}"
        target = targets[row]
        if answer == target:
            found.append([(answered, INK), (file, MUTED)])
        else:
            found.append([(answered, WARNING), (f"is {labels[target]}", INK), (file, MUTED)])
    return found


def mistakes_sheet(images: Pixels, predicted: Predictions, rows: Int64Array) -> Figure:
    """Draw the most confident mistakes, where wrong labels and ambiguous pictures show.

    Args:
        images: (M, C, H, W), maybe none.
        predicted: one class a picture.
        rows: (M,) of the pictures in the predictions, as of `confident_mistakes`.
    """
    captions = _captions(predicted, rows)
    cells = [_Cell(image, caption) for image, caption in zip(images, captions, strict=True)]
    title = "Most confident mistakes" if cells else "There are no mistakes"
    legend = "Red: what the model answers, with its probability. Below: the label, and the file."
    return _sheet(cells, title, columns=6, legend=legend if cells else "")


def batch_sheet(images: Pixels, targets: NDArray[np.generic], class_names: Sequence[str]) -> Figure:
    """Draw the first 64 pictures of a batch (B, C, H, W), eight to a row, with labels.

    `targets` are classes (B,), or of label sets (B, K), of which those from one half on are shown,
    or of pixels (B, H, W), which are laid over the pictures.
    """
    title = "Training pictures as the network sees them"
    if targets.ndim == 3:
        pairs = zip(images[:64], targets)
        cells = [_Cell(_painted(image, one)) for image, one in pairs]
        return _sheet(cells, title, columns=8, legend=_colour_legend(class_names))
    labels = plain_labels(class_names, longest=13)
    sets = [np.flatnonzero(one >= 0.5) for one in targets] if targets.ndim == 2 else targets
    cells = [
        _Cell(image, [(labels[int(t)], INK) for t in np.atleast_1d(one)])
        for image, one in zip(images[:64], sets)
    ]
    return _sheet(cells, title, columns=8)


@dataclass(frozen=True, eq=False)
class MapRow:
    """A picture (C, H, W) with the classes (H, W) of its mask and of the answer.

    `wrong` is the share of wrong pixels, `file` the path of the picture.
    """

    image: Pixels
    target: IntegerArray
    answer: IntegerArray
    wrong: float
    file: str


def class_map_sheet(rows: Sequence[MapRow], class_names: Sequence[str]) -> Figure:
    """Draw pictures beside their masks, the predicted classes, and the pixels that are wrong."""
    cells: list[_Cell | None] = []
    for row, file in zip(rows, _files([row.file for row in rows]), strict=True):
        counted = (row.target >= 0) & (row.target < len(class_names))
        mistakes = (counted & (row.target != row.answer)).astype(np.float32)
        cells += [
            _Cell(row.image, ((file, MUTED),)),
            _Cell(_painted(row.image, row.target), (("mask", INK),)),
            _Cell(_painted(row.image, row.answer), (("answer", INK),)),
            _Cell(row.image, ((f"{percent(row.wrong)} wrong", WARNING),), mistakes),
        ]
    title = "Pictures with the most wrong pixels"
    return _sheet(cells, title, columns=8, legend=_colour_legend(class_names))


def _painted(image: Pixels, classes: AnyArray) -> UInt8Array:
    """Return the picture in grey with the colours of classes; white for what is left out."""
    palette = np.concatenate([colours(255), np.full((1, 3), 255, np.uint8)])
    grey = shown(image).mean(axis=0)
    known = np.where((classes >= 0) & (classes < 255), classes, 255).astype(np.int64)
    mixed = 0.5 * grey[:, :, None] + 0.5 * palette[known]
    painted: UInt8Array = np.where((known == 0)[:, :, None], grey[:, :, None], mixed).astype(
        np.uint8
    )
    return np.ascontiguousarray(painted.transpose(2, 0, 1))


def _colour_legend(class_names: Sequence[str]) -> str:
    """Name the colours of the first classes."""
    names = plain_labels(class_names[: len(_COLOUR_NAMES)], longest=17)
    named = ", ".join(f"{name} {colour}" for name, colour in zip(names, _COLOUR_NAMES))
    more = ", ..." if len(class_names) > len(_COLOUR_NAMES) else ""
    return f"Classes: {named}{more}. White: left out."


def label_sheet(sample: GuessSample, read: Callable[[str], Pixels]) -> Figure:
    """Draw a sample's pictures with label, probability and file, in red where probably wrong.

    `read` returns the picture (C, H, W) of a path.
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
    shown = [*unsure, *others]
    cells = []
    for guess, name in zip(shown, _files([guess.path for guess in shown]), strict=True):
        color = WARNING if guess.probability < _UNSURE else INK
        label = labels.get(guess.label) or plain_labels([guess.label], 13, instead="")[0]
        label = f"{label} {percent(guess.probability, 0)}"
        cells.append(_Cell(read(guess.path), ((label, color), (name, MUTED))))
    legend = "The label with its probability, and the file. Red: more likely wrong than right."
    return _sheet(cells, title, columns=10, legend=legend)


def right_and_wrong(predicted: Predictions, right: int = 6, wrong: int = 12) -> Int64Array:
    """Return the rows of right answers of different classes, then of confident mistakes."""
    targets = predicted.targets
    hits = np.flatnonzero(predicted.decided == targets)
    of_each_class = hits[np.unique(targets[hits], return_index=True)[1]]
    count = min(right, len(of_each_class))
    spread = np.linspace(0, len(of_each_class) - 1, count).round().astype(np.int64)
    return np.concatenate([of_each_class[spread], confident_mistakes(predicted, wrong)])


def map_sheet(
    images: Pixels,
    maps: NDArray[np.floating],
    predicted: Predictions,
    rows: Int64Array,
    title: str,
) -> Figure:
    """Draw right pictures with the map of their class, then mistakes with the maps of both.

    Args:
        images: (M, C, H, W).
        maps: (M, 2, H, W) in [0, 1], of the predicted class and of the target.
        predicted: one class a picture.
        rows: (M,) of the pictures in the predictions, as of `right_and_wrong`.
        title: what the maps are.
    """
    labels = plain_labels(predicted.class_names, longest=13)
    preds, targets = predicted.decided[rows], predicted.targets[rows]
    captions = _captions(predicted, rows)
    cells: list[_Cell | None] = []
    for is_right in (True, False):
        for i in np.flatnonzero((preds == targets) == is_right):
            cells.append(_Cell(images[i], captions[i]))
            seen = [preds[i]] if is_right else [preds[i], targets[i]]
            cells += _mapped(images[i], maps[i], [labels[index] for index in seen])
        cells += [None] * (-len(cells) % _MAP_COLUMNS)
    legend = "The answer with its probability, and the file. Red: the answer is wrong."
    return _sheet(cells, title, columns=_MAP_COLUMNS, legend=legend)


def _mapped(image: Pixels, maps: NDArray[np.floating], labels: Sequence[str]) -> list[_Cell]:
    return [_Cell(image, [(f"{name} here", MUTED)], heat) for heat, name in zip(maps, labels)]


def likeliest(probs: NDArray[np.floating]) -> Int64Array:
    """Return (M, 2), the two most probable classes of each row of (M, K), best first."""
    return np.argsort(-probs, axis=1, kind="stable")[:, :2]


def rivals_sheet(
    images: Sequence[Pixels],
    maps: NDArray[np.floating],
    probs: NDArray[np.floating],
    *,
    class_names: Sequence[str],
    names: Sequence[str],
    title: str,
) -> Figure:
    """Draw pictures of unknown class with the maps of their two most probable classes.

    Args:
        images: M of any size, (C, H, W).
        maps: (M, 2, h, w) in [0, 1], of the `likeliest` classes; stretched over the pictures.
        probs: (M, K).
        class_names: K names.
        names: M names of files.
        title: what the maps are.
    """
    labels = plain_labels(class_names)
    cells = []
    rows = zip(images, maps, probs, likeliest(probs), _files(names), strict=True)
    for image, heats, p, pair, name in rows:
        first, second = (f"{labels[index]} {percent(p[index], 0)}" for index in pair)
        cells.append(_Cell(image, [(first, INK), (f"or {second}", MUTED), (name, MUTED)]))
        cells += _mapped(image, heats, [labels[index] for index in pair])
    return _sheet(cells, title, columns=_MAP_COLUMNS, inches=_RIVALS_INCHES)


def suspects_sheet(
    suspects: Sequence[Suspect], read: Callable[[int], Pixels], caution: str = ""
) -> Figure:
    """Draw the worst suspects, of which the worst of each kind come first, about equally many each.

    Args:
        suspects: of any kinds.
        read: returns the picture (C, H, W) of an index.
        caution: how far they can be believed, below the title; "" where they can.
    """
    kinds: dict[str, list[Suspect]] = defaultdict(list)
    for suspect in suspects:
        kinds[suspect.kind].append(suspect)
    in_turn = chain.from_iterable(zip_longest(*kinds.values()))
    shown = sorted(islice(filter(None, in_turn), _SUSPECTS), key=lambda suspect: suspect.kind)
    labels = plain_labels([suspect.label for suspect in shown], 17, instead="")
    others = plain_labels([s.suggested or s.like or "-" for s in shown], 17, instead="")
    files = _files([suspect.name for suspect in shown])
    cells = []
    for suspect, label, other, file in zip(shown, labels, others, files, strict=True):
        what = f"{suspect.kind} {suspect.score:.2f}"
        name, detail = label, f"like {other}" if suspect.like else suspect.part
        if suspect.suggested:
            name, detail = f"is {label}", f"rather {other}"
        caption = ((what, WARNING), (name, INK), (detail, MUTED), (file, MUTED))
        cells.append(_Cell(read(suspect.index), caption))
    count = f" ({len(shown)} of {len(suspects):,})" if len(suspects) > len(shown) else ""
    legend = (
        "Red: what is suspicious, and how much (1 is the most). Below: the label, and the file."
    )
    return _sheet(
        cells,
        f"Suspects{count}" if cells else "There are no suspects",
        columns=6,
        legend=f"{legend} {caution}".rstrip() if cells else "",
    )


def _files(paths: Sequence[str]) -> list[str]:
    """Return the names of files as a cell of a sheet can show them."""
    return plain_labels([PurePath(path).name for path in paths], longest=17, instead="")


def _sheet(
    cells: Sequence[_Cell | None],
    title: str,
    columns: int,
    inches: float = _CELL_INCHES,
    legend: str = "",
) -> Figure:
    """Draw pictures of any sizes in rows under a title with a legend; None leaves a gap.

    All share one pair of axes measured in cells, because separate axes would take seconds.
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
    legends = wrap(legend, int(columns * inches * _LETTERS_AN_INCH))
    head = _TITLE_INCHES + _CAPTION_INCHES * len(legends)
    figure = new_figure(columns * inches, tops[-1] * inches + head, arranged=False)
    height = figure.get_figheight()
    above = head / height
    heading: dict[str, Any] = {"va": "center", "fontsize": 11, "fontweight": "bold", "color": INK}
    figure.text(_PADDING / columns, 1 - _TITLE_INCHES / 2 / height, title, **heading)
    for number, text in enumerate(legends):
        down = (_TITLE_INCHES - 0.08 + _CAPTION_INCHES * number) / height
        figure.text(_PADDING / columns, 1 - down, text, va="center", fontsize=8, color=MUTED)
    axes = figure.add_axes((0, 0, 1, 1 - above))
    axes.set_axis_off()
    for top, row in zip(tops, rows, strict=False):
        for column, cell in enumerate(row):
            if cell is None:
                continue
            _draw_picture(axes, cell, column + 0.5, top + picture / 2, picture - _PADDING)
            for number, (text, color) in enumerate(cell.caption):
                y = top + picture + line * (number + 0.3)
                style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": _LETTERS}
                style["fontfamily"] = families_of(text)
                written = axes.text(column + 0.5, y, text, color=color, **style)
                # By steps, since a hinted font is not as much narrower as it is smaller.
                size = _LETTERS
                while written.get_window_extent().width > (1 - _PADDING / 2) * inches * figure.dpi:
                    written.set_fontsize(size := 0.9 * size)
    # Last, because imshow moves the limits and forces its own aspect.
    axes.set(xlim=(0, columns), ylim=(max(tops[-1], 1e-3), 0), aspect="auto")
    return figure


def _draw_picture(axes: Axes, cell: _Cell, x: float, y: float, most_height: float) -> None:
    """Draw a picture around (x, y), as large as its cell and proportions allow."""
    image = shown(cell.image)
    channels, height, width = image.shape
    coloured = channels == 3 and cell.heat is None
    pixels = image.transpose(1, 2, 0) if coloured else image.mean(axis=0)
    half_width = min(1 - _PADDING, most_height * width / height) / 2
    half_height = half_width * height / width
    extent = (x - half_width, x + half_width, y + half_height, y - half_height)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=extent)
    if cell.heat is not None:
        heat: dict[str, Any] = {"cmap": HEAT, "vmin": 0, "vmax": 1, "interpolation": "bilinear"}
        axes.imshow(cell.heat, alpha=0.6, extent=extent, **heat)
