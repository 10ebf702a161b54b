"""Figures of one run: learning curves, the learning-rate range test, and all files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..machine.arrays import UInt8Array
from ..metrics.classification import confusion_matrix
from ..metrics.probabilistic import reliability_bins
from ..metrics.registry import METRICS, RANKING
from ..metrics.roc import class_auc_intervals
from ..metrics.summary import metric_key, metric_name
from ..records.pictures import ClassMaps, Pixels
from ..records.run import Predictions
from ..storage.files import write_atomically
from .charts import reliability_diagram
from .class_figures import class_figure, class_table, confusion_figure
from .contact_sheets import (
    batch_sheet,
    confident_mistakes,
    map_sheet,
    mistakes_sheet,
    right_and_wrong,
)
from .formatting import JUDGED_BY, is_percent, metric_text
from .label_set_figures import draw_label_sets
from .pixel_figures import draw_pixels
from .roc_figure import roc_figure
from .style import (
    ACCENT,
    INK,
    MUTED,
    WARNING,
    in_percent,
    new_figure,
    save_as,
    tidy,
)

__all__ = ["draw_run_figures", "learning_curves", "range_figure"]

# (epoch, value) pairs in order, by metric key.
History = Mapping[str, Sequence[Sequence[float]]]


def draw_run_figures(
    folder: Path,
    history: History,
    predictions: Mapping[str, Predictions],
    read: Callable[[int], Pixels],
    *,
    batch: tuple[NDArray[np.generic], NDArray[np.generic]] | None,
    class_maps: ClassMaps | None = None,
    read_mask: Callable[[int], UInt8Array] | None = None,
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
    if history:
        yield save_as(folder, learning_curves(history), "learning_curves")
    if not predictions:  # nothing was measured
        return
    first, measured = next(iter(predictions.items()))
    if batch is not None:
        yield save_as(folder, _batch_figure(*batch, measured), "training_batch")
    for part, predicted in predictions.items():
        if read_mask is not None:
            yield from draw_pixels(folder, part, predicted, read, read_mask)
        elif predicted.kind_of_targets.sets:
            yield from draw_label_sets(folder, part, predicted)
        else:
            yield from _draw_classes(folder, part, predicted, read)
    # Nothing is known of where one of several labels is, and pixels say it themselves.
    if class_maps is not None and read_mask is None and not measured.kind_of_targets.sets:
        yield save_as(folder, _map_figure(measured, read, class_maps), f"{first}_class_maps")


def _batch_figure(
    images: NDArray[np.generic], targets: NDArray[np.generic], measured: Predictions
) -> Figure:
    shown = np.clip(np.rint(np.asarray(images)), 0, 255).astype(np.uint8)
    labels = np.asarray(targets)
    if labels.ndim == 2 and not measured.kind_of_targets.sets:  # of mixed pictures
        labels = labels.argmax(axis=1)
    return batch_sheet(shown, labels, measured.class_names)


def _draw_classes(
    folder: Path, part: str, predicted: Predictions, read: Callable[[int], Pixels]
) -> Iterator[Path]:
    """Draw the predictions of one class a picture, and write the table of the classes."""
    saved, names = partial(save_as, folder), predicted.class_names
    probs, preds, targets = predicted.probs, predicted.decided, predicted.targets
    matrix = confusion_matrix(probs, targets, preds)
    wrong = confident_mistakes(predicted)
    # One more than the mistakes, so that there is a shape even where there are none.
    chosen = [*predicted.sample_ids[wrong].tolist(), int(predicted.sample_ids[0])]
    pictures = np.stack([read(i) for i in chosen])[: len(wrong)]
    yield saved(confusion_figure(matrix, names), f"{part}_confusion_matrix")
    yield saved(class_figure(matrix, names), f"{part}_classes")
    bins = reliability_bins(probs, targets, preds=preds)
    yield saved(reliability_diagram(bins), f"{part}_reliability")
    aucs = class_auc_intervals(probs, targets, predicted.groups)
    if (curves := roc_figure(predicted, aucs[:, 0])) is not None:
        yield saved(curves, f"{part}_roc")
    yield saved(mistakes_sheet(pictures, predicted, wrong), f"{part}_mistakes")
    table = folder / f"{part}_classes.csv"
    write_atomically(table, class_table(matrix, names, aucs))
    yield table


def _map_figure(
    predicted: Predictions, read: Callable[[int], Pixels], class_maps: ClassMaps
) -> Figure:
    rows = right_and_wrong(predicted)
    pictures = np.stack([read(i) for i in predicted.sample_ids[rows].tolist()])
    both = np.stack([predicted.decided[rows], predicted.targets[rows]], axis=1)
    maps = class_maps.of(pictures, both)
    return map_sheet(pictures, maps, predicted, rows, class_maps.title)


def learning_curves(history: History) -> Figure:
    """Draw the loss and what the run is judged by per epoch, training against validation.

    That is the first metric of the validation part beside the loss. The best epoch is named. Other
    keys are not drawn; NaN and infinite values leave gaps.

    Raises:
        ValueError: there is neither a loss nor an accuracy, mean IoU, mean average precision or
            kappa.
    """

    def known(name: str) -> bool:
        return any(history.get(metric_key(split, name)) for split in ("train", "val"))

    watched = (key.removeprefix("val/") for key in history if key.startswith("val/"))
    judged_by = next((name for name in watched if name != "loss"), None)
    judged_by = judged_by or next(filter(known, JUDGED_BY), "")
    panels = [name for name in ("loss", judged_by) if known(name)]
    if not panels:
        raise ValueError("The history holds neither a loss nor an accuracy.")
    figure = new_figure(5.2 * len(panels), 3.8)
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_curves(axes, history, name)
    return figure


def _draw_curves(axes: Axes, history: History, name: str) -> None:
    plain, is_share = metric_name(name), is_percent(name)
    title = plain[0].upper() + plain[1:]
    for split, label, color in (("train", "training", MUTED), ("val", "validation", ACCENT)):
        points = history.get(metric_key(split, name), ())
        if not points:
            continue
        epochs, values = np.array(points, dtype=np.float64).T
        values[~np.isfinite(values)] = np.nan
        marker = "o" if len(epochs) <= 30 else ""
        axes.plot(epochs, values, color=color, label=label, marker=marker, markersize=3, lw=1.8)
        if split == "val" and name in (*RANKING, "loss") and not np.isnan(values).all():
            higher = METRICS[name].higher_is_better
            best = int(np.nanargmax(values) if higher else np.nanargmin(values))
            axes.plot(epochs[best], values[best], "o", color=ACCENT, markersize=8, mfc="white")
            shown = f"{values[best]:.3g}" if name == "loss" else metric_text(name, values[best])
            title += f": best {shown} in epoch {epochs[best]:.0f}"
    tidy(axes, title=title, x="epoch", grid="both")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    left, right = axes.get_xlim()
    if right - left < 1:  # a single epoch, around which matplotlib would invent fractions
        axes.set_xlim(left - 0.5, right + 0.5)
    if is_share:
        in_percent(axes.yaxis)
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


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
    title, loss = "Learning-rate range test", "smoothed training loss"
    tidy(axes, title=title, x="learning rate", y=loss, grid="both")
    axes.legend(frameon=False, fontsize=8)
    return figure
