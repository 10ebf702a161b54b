"""Figures of one run: how it learned, what it confuses, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from src.metrics.probabilistic import ReliabilityBins
from src.metrics.summary import metric_key
from src.reporting.style import (
    ACCENT,
    ACCENT_SOFT,
    BACKDROP,
    GRID,
    INK,
    MUTED,
    WARNING_SOFT,
    axes_at,
    inches,
    new_figure,
    plain_labels,
    tidy,
)

__all__ = ["confusion_figure", "learning_curves", "reliability_diagram"]

History = Mapping[str, Sequence[tuple[int, float]]]

_MOST_CLASSES_WITH_COUNTS = 16  # cells of a confusion matrix that still hold a number
_MOST_CLASSES_WITH_NAMES = 50  # rows of a confusion matrix that still hold a name
_MOST_PAIRS = 20
_SHARES = LinearSegmentedColormap.from_list("shares", ["white", "#93b4f5", ACCENT, "#172b6b"])


def learning_curves(history: History) -> Figure:
    """Loss and accuracy per epoch, training against validation, with the best epoch named.

    Args:
        history: (epoch, value) pairs, in order, by metric key; of "train/loss", "val/loss",
            "train/accuracy" and "val/accuracy" those that are there are drawn, other keys are not.
            NaN and infinite values leave gaps.

    Raises:
        ValueError: none of the four is there.
    """
    panels = [
        name
        for name in ("loss", "accuracy")
        if any(history.get(metric_key(split, name)) for split in ("train", "val"))
    ]
    if not panels:
        raise ValueError("The history holds neither a loss nor an accuracy.")
    figure = new_figure(5.2 * len(panels), 3.8)
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_curves(axes, history, name)
    return figure


def _draw_curves(axes: Axes, history: History, name: str) -> None:
    title = name.capitalize()
    for split, label, color in (("train", "training", MUTED), ("val", "validation", ACCENT)):
        points = history.get(metric_key(split, name), ())
        if not points:
            continue
        epochs, values = np.array(points, dtype=np.float64).T
        values[~np.isfinite(values)] = np.nan
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, values, color=color, label=label, marker=marker, markersize=3, lw=1.8)
        if split == "val" and not np.isnan(values).all():
            best = int(np.nanargmax(values) if name == "accuracy" else np.nanargmin(values))
            axes.plot(epochs[best], values[best], "o", color=ACCENT, markersize=8, mfc="white")
            shown = f"{values[best]:.1%}" if name == "accuracy" else f"{values[best]:.3g}"
            title += f": best {shown} in epoch {epochs[best]:.0f}"
    tidy(axes, title=title, x="epoch")
    axes.grid(color=GRID, lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    left, right = axes.get_xlim()
    if right - left < 1:  # a single epoch, around which matplotlib would invent fractions
        axes.set_xlim(left - 0.5, right + 0.5)
    if name == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def confusion_figure(
    matrix: NDArray[np.int64], class_names: Sequence[str], title: str = "Confusion matrix"
) -> Figure:
    """The confusion matrix, each row coloured by the shares of its target.

    Up to 16 classes every cell shows its count. With more, colours show the pattern and a list
    beside it names the pairs most often confused; past 50 classes the rows are numbered.

    Args:
        matrix: (K, K) counts, targets in rows, as `metrics.classification.confusion_matrix`.
        class_names: K names.
        title: what it is of.
    """
    num_classes = len(class_names)
    counted = num_classes <= _MOST_CLASSES_WITH_COUNTS
    labels = plain_labels(class_names) if num_classes <= _MOST_CLASSES_WITH_NAMES else []
    font_size = 8 if num_classes <= 30 else 6.5
    label_size = inches(labels, font_size)
    size = max(3.2, 0.5 * num_classes) if counted else 7.0
    upright = label_size > 0.8 * size / num_classes
    left, right = 0.6 + label_size, 1.0 if counted else 4.2
    bottom, top = 0.6 + (label_size if upright else 0.15), 0.5
    figure = new_figure(left + size + right, bottom + size + top, arranged=False)
    axes = axes_at(figure, left, bottom, size, size)
    scale = axes_at(figure, left + size + 0.15, bottom + 0.1 * size, 0.18, 0.8 * size)
    shares = _draw_shares(axes, scale, matrix, title)
    if not counted:
        margin = axes_at(figure, left + size + 1.1, bottom, 3.0, size)
        _list_confusions(margin, matrix, class_names)
    if labels:
        axes.set_xticks(range(num_classes), labels, rotation=90 * upright, fontsize=font_size)
        axes.set_yticks(range(num_classes), labels, fontsize=font_size)
    if counted:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "white" if shares[row, column] > 0.35 else INK
                short = f"{count}" if count < 10_000 else f"{count / 1000:.0f}k"
                axes.text(column, row, short, ha="center", va="center", fontsize=8, color=color)
    return figure


def _draw_shares(
    axes: Axes, scale: Axes, matrix: NDArray[np.int64], title: str
) -> NDArray[np.float64]:
    """Draw each row's shares as colours and the scale beside them; return the shares."""
    totals = matrix.sum(axis=1, keepdims=True)
    # NaN, for a class without a target, is left transparent.
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    axes.set_facecolor(BACKDROP)
    # The square root lifts shares of a few percent, which matter most, above the white.
    image = axes.imshow(shares, cmap=_SHARES, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    tidy(axes, title=title, x="predicted", y="target")
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(image, cax=scale, ticks=[0, 0.05, 0.2, 0.5, 1])
    scale.yaxis.set_major_formatter(PercentFormatter(1.0))
    scale.tick_params(labelsize=8, length=0, labelcolor=INK)
    bar.set_label("share of the target's pictures", fontsize=8, color=INK)
    bar.outline.set_visible(False)
    return shares


def _list_confusions(axes: Axes, matrix: NDArray[np.int64], class_names: Sequence[str]) -> None:
    """Write the most frequent confusions, most frequent first."""
    numbered = len(class_names) > _MOST_CLASSES_WITH_NAMES
    labels = plain_labels(class_names, longest=15 if numbered else 19)
    totals = matrix.sum(axis=1)
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
    axes.set_axis_off()
    axes.set_title("Most confused", loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "color": INK}
    for line, (row, column) in enumerate(zip(*np.unravel_index(order, wrong.shape), strict=True)):
        if wrong[row, column] == 0:
            break
        pair = [f"{labels[i]} ({i})" if numbered else labels[i] for i in (row, column)]
        top = 1 - line / _MOST_PAIRS
        count, share = wrong[row, column], wrong[row, column] / totals[row]
        axes.text(0, top, f"{pair[0]} → {pair[1]}", fontsize=8, **place)
        axes.text(
            0,
            top - 0.021,
            f"{count} times, {share:.0%} of the target's",
            fontsize=7,
            **place | {"color": MUTED},
        )
    if not wrong.any():
        axes.text(0, 1, "nothing", fontsize=8, **place)


def reliability_diagram(bins: ReliabilityBins) -> Figure:
    """How often the network is right against how sure it was, over how often it was that sure.

    Args:
        bins: from `metrics.probabilistic.reliability_bins`.
    """
    figure = new_figure(5.4, 5.8)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    filled = bins.counts > 0
    centres, width = (bins.edges[:-1] + bins.edges[1:])[filled] / 2, np.diff(bins.edges)[filled]
    accuracy, confidence = bins.accuracy[filled], bins.confidence[filled]
    common, gap = np.minimum(accuracy, confidence), accuracy - confidence
    upper.plot([0, 1], [0, 1], color=MUTED, lw=1.2, ls=(0, (4, 3)), label="perfect calibration")
    for bottom, height, color, label in (
        (0, common, ACCENT, "accuracy"),
        (common, gap.clip(min=0), ACCENT_SOFT, "accuracy above confidence"),
        (common, -gap.clip(max=0), WARNING_SOFT, "confidence above accuracy"),
    ):
        upper.bar(centres, height, width * 0.92, bottom=bottom, color=color, lw=0, label=label)
    tidy(upper, title=f"Calibration error {bins.calibration_error:.1%}", y="accuracy")
    upper.set_ylim(0, 1)
    upper.yaxis.set_major_formatter(PercentFormatter(1.0))
    lower.bar(centres, bins.counts[filled] / bins.counts.sum(), width * 0.92, color=MUTED)
    tidy(lower, x="confidence in the predicted class", y="share of pictures")
    lower.set_xlim(0, 1)
    lower.xaxis.set_major_formatter(PercentFormatter(1.0))
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for axes in (upper, lower):
        axes.grid(axis="y", color=GRID, lw=0.8)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, labelcolor=INK)
    return figure
