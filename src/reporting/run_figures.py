"""Figures of one run: learning curves, reliability, the learning-rate range test, and all files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from ..machine.text import percent
from ..metrics.classification import confusion_matrix
from ..metrics.probabilistic import ReliabilityBins, reliability_bins
from ..metrics.summary import metric_key
from ..records.pictures import ClassMaps, Pixels
from ..records.run import Predictions
from ..storage.files import write_atomically
from .class_figures import class_figure, class_table, confusion_figure
from .contact_sheets import (
    batch_sheet,
    confident_mistakes,
    map_sheet,
    mistakes_sheet,
    right_and_wrong,
)
from .style import (
    ACCENT,
    ACCENT_SOFT,
    GRID,
    INK,
    MUTED,
    WARNING,
    WARNING_SOFT,
    in_percent,
    new_figure,
    save_as,
    tidy,
)

__all__ = ["draw_run_figures", "learning_curves", "range_figure", "reliability_diagram"]

# (epoch, value) pairs in order, by metric key.
History = Mapping[str, Sequence[Sequence[float]]]
_CURVES = {"loss": "Loss", "accuracy": "Accuracy", "miou": "Mean IoU"}


def draw_run_figures(
    folder: Path,
    history: History,
    predictions: Mapping[str, Predictions],
    read: Callable[[int], Pixels],
    batch: tuple[NDArray[np.generic], NDArray[np.generic]] | None,
    class_maps: ClassMaps | None = None,
    read_mask: Callable[[int], NDArray[np.uint8]] | None = None,
) -> Iterator[Path]:
    """Draw learning curves, an augmented batch, and the predictions of each part.

    What a model does not have, such as curves without epochs, is not drawn.

    Args:
        folder: where to; one PNG a picture, and a CSV table of every part's classes.
        history: (epoch, value) pairs by metric key.
        predictions: by part.
        read: sample id -> picture (C, H, W), for the most confident mistakes.
        batch: pictures (B, C, H, W) in [0, 255] as training saw them, and their targets: classes
            (B,) or, of mixed pictures or label sets, (B, K), or of pixels (B, H, W); None where it
            saw them as they are.
        class_maps: of a model that has them: drawn of the first part alone.
        read_mask: sample id -> classes (H, W) of the pixels, where these have some.

    Yields:
        The path of each file once it is written.
    """
    saved = partial(save_as, folder)
    if history:
        yield saved(learning_curves(history), "learning_curves")
    if not predictions:  # nothing was measured
        return
    names = next(iter(predictions.values())).class_names
    if batch is not None:
        images, labels = np.asarray(batch[0]), np.asarray(batch[1])
        shown = np.clip(np.rint(images), 0, 255).astype(np.uint8)
        of_sets = any(one.kind == "multi" for one in predictions.values())
        if labels.ndim == 2 and not of_sets:
            labels = labels.argmax(axis=1)
        yield saved(batch_sheet(shown, labels, names), "training_batch")
    sets = {part: one for part, one in predictions.items() if one.kind == "multi"}
    for part, predicted in sets.items():
        from .label_set_figures import draw_label_sets

        yield from draw_label_sets(folder, part, predicted)
    if read_mask is not None:
        from .pixel_figures import draw_pixels

        for part, predicted in predictions.items():
            yield from draw_pixels(folder, part, predicted, read, read_mask)
    if sets or read_mask is not None:  # nothing that follows is about several labels or pixels
        return
    for part, predicted in predictions.items():
        probs, targets = predicted.probs, predicted.targets
        matrix = confusion_matrix(probs, targets)
        wrong = confident_mistakes(probs, targets)
        # One more than the mistakes, so that there is a shape even where there are none.
        chosen = [*predicted.sample_ids[wrong].tolist(), int(predicted.sample_ids[0])]
        pictures = np.stack([read(i) for i in chosen])[: len(wrong)]
        sheet = mistakes_sheet(
            pictures, probs[wrong], targets[wrong], names, _files(predicted, wrong)
        )
        yield saved(confusion_figure(matrix, names), f"{part}_confusion_matrix")
        yield saved(class_figure(matrix, names), f"{part}_classes")
        yield saved(reliability_diagram(reliability_bins(probs, targets)), f"{part}_reliability")
        yield saved(sheet, f"{part}_mistakes")
        table = folder / f"{part}_classes.csv"
        write_atomically(table, class_table(matrix, names))
        yield table
    if class_maps is not None:
        part, predicted = next(iter(predictions.items()))
        examples = right_and_wrong(predicted.probs, predicted.targets)
        pictures = np.stack([read(i) for i in predicted.sample_ids[examples].tolist()])
        probs, targets = predicted.probs[examples], predicted.targets[examples]
        maps = class_maps.of(pictures, np.stack([probs.argmax(axis=1), targets], axis=1))
        files = _files(predicted, examples)
        figure = map_sheet(pictures, maps, probs, targets, names, files, class_maps.title)
        yield saved(figure, f"{part}_class_maps")


def _files(predicted: Predictions, rows: NDArray[np.int64]) -> list[str]:
    """Return the paths of pictures, or their numbers where they are no files."""
    if predicted.paths is None:
        return [f"picture {index}" for index in predicted.sample_ids[rows].tolist()]
    return [predicted.paths[row] for row in rows.tolist()]


def learning_curves(history: History) -> Figure:
    """Draw loss and accuracy (or mean IoU) per epoch, training against validation.

    The best epoch is named. Other keys are not drawn; NaN and infinite values leave gaps.

    Raises:
        ValueError: there is neither a loss nor an accuracy.
    """
    panels = [
        name
        for name in _CURVES
        if any(history.get(metric_key(split, name)) for split in ("train", "val"))
    ]
    if not panels:
        raise ValueError("The history holds neither a loss nor an accuracy.")
    figure = new_figure(5.2 * len(panels), 3.8)
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_curves(axes, history, name)
    return figure


def _draw_curves(axes: Axes, history: History, name: str) -> None:
    title, is_share = _CURVES[name], name != "loss"
    for split, label, color in (("train", "training", MUTED), ("val", "validation", ACCENT)):
        points = history.get(metric_key(split, name), ())
        if not points:
            continue
        epochs, values = np.array(points, dtype=np.float64).T
        values[~np.isfinite(values)] = np.nan
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, values, color=color, label=label, marker=marker, markersize=3, lw=1.8)
        if split == "val" and not np.isnan(values).all():
            best = int(np.nanargmax(values) if is_share else np.nanargmin(values))
            axes.plot(epochs[best], values[best], "o", color=ACCENT, markersize=8, mfc="white")
            shown = percent(values[best]) if is_share else f"{values[best]:.3g}"
            title += f": best {shown} in epoch {epochs[best]:.0f}"
    tidy(axes, title=title, x="epoch")
    axes.grid(color=GRID, lw=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    left, right = axes.get_xlim()
    if right - left < 1:  # a single epoch, around which matplotlib would invent fractions
        axes.set_xlim(left - 0.5, right + 0.5)
    if is_share:
        in_percent(axes.yaxis)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def reliability_diagram(
    bins: ReliabilityBins, x: str = "confidence in the predicted class", y: str = "accuracy"
) -> Figure:
    """Draw accuracy against confidence, above the share of pictures of each confidence.

    Args:
        bins: from `metrics.probabilistic.reliability_bins`.
        x, y: names of the two.
    """
    figure = new_figure(5.4, 5.8)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    filled = bins.counts > 0
    centres, width = (bins.edges[:-1] + bins.edges[1:])[filled] / 2, np.diff(bins.edges)[filled]
    accuracy, confidence = bins.accuracy[filled], bins.confidence[filled]
    common, gap = np.minimum(accuracy, confidence), accuracy - confidence
    upper.plot([0, 1], [0, 1], color=MUTED, lw=1.2, ls=(0, (4, 3)), label="perfect calibration")
    for bottom, height, color, label in (
        (0, common, ACCENT, y),
        (common, gap.clip(min=0), ACCENT_SOFT, "more than predicted"),
        (common, -gap.clip(max=0), WARNING_SOFT, "less than predicted"),
    ):
        upper.bar(centres, height, width * 0.92, bottom=bottom, color=color, lw=0, label=label)
    tidy(upper, title=f"Calibration error {percent(bins.calibration_error)}", y=y)
    upper.set_ylim(0, 1)
    in_percent(upper.yaxis)
    lower.bar(centres, bins.counts[filled] / bins.counts.sum(), width * 0.92, color=MUTED)
    tidy(lower, x=x, y="share of pictures")
    lower.set_xlim(0, 1)
    in_percent(lower.xaxis)
    lower.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    for axes in (upper, lower):
        axes.grid(axis="y", color=GRID, lw=0.8)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, labelcolor=INK)
    return figure


def range_figure(
    rates: Sequence[float], losses: Sequence[float], chosen: float, given: float
) -> Figure:
    """Draw the smoothed loss over growing learning rates, with the rates chosen and given."""
    figure = new_figure(5.6, 3.8)
    axes = figure.subplots()
    axes.plot(rates, losses, color=ACCENT, lw=1.8)
    axes.set_xscale("log")
    axes.axvline(chosen, color=WARNING, lw=1.4, label=f"chosen: {chosen:g}")
    axes.axvline(given, color=MUTED, lw=1.4, ls="--", label=f"set before: {given:g}")
    tidy(axes, title="Learning-rate range test", x="learning rate", y="smoothed training loss")
    axes.grid(color=GRID, lw=0.8)
    axes.legend(frameon=False, fontsize=8)
    return figure
