"""Figures and the CSV table of the labels of pictures that have several."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..machine.arrays import Float64Array
from ..machine.text import csv_text
from ..metrics.multilabel import LabelScores, label_scores, precision_recall
from ..metrics.probabilistic import binned
from ..metrics.roc import class_auc_intervals
from ..records.run import Predictions
from ..storage.files import write_atomically
from .charts import panels, reliability_diagram
from .class_figures import AUC_COLUMNS, class_bars, score_cell
from .roc_figure import roc_figure
from .style import ACCENT, MUTED, WARNING, in_percent, plain_labels, save_as, tidy

__all__ = ["curves_figure", "draw_label_sets", "label_figure", "label_table"]

_COLUMNS = (
    *("label", "pictures", "predicted", "average_precision", "recall", "precision", "f1"),
    *("threshold", *AUC_COLUMNS),
)
_MOST_ROWS = 50
_MOST_CURVES = 24


def draw_label_sets(folder: Path, part: str, predicted: Predictions) -> Iterator[Path]:
    """Draw the labels and the reliability of predictions of label sets, and write their table.

    Yields:
        The path of each file once it is written.
    """
    saved = partial(save_as, folder)
    scores = label_scores(predicted.probs, predicted.targets, predicted.decided)
    yield saved(label_figure(scores, predicted.class_names), f"{part}_classes")
    if (curves := curves_figure(scores, predicted)) is not None:
        yield saved(curves, f"{part}_precision_recall")
    aucs = class_auc_intervals(predicted.probs, predicted.targets, predicted.groups)
    if (curves := roc_figure(predicted, aucs[:, 0])) is not None:
        yield saved(curves, f"{part}_roc")
    probs, targets = predicted.probs.astype(np.float64).ravel(), predicted.targets.ravel() > 0
    figure = reliability_diagram(
        binned(probs, targets), x="probability of a label", y="share that has it"
    )
    yield saved(figure, f"{part}_reliability")
    table = folder / f"{part}_classes.csv"
    write_atomically(table, label_table(scores, predicted, aucs))
    yield table


def label_table(scores: Sequence[LabelScores], predicted: Predictions, aucs: Float64Array) -> str:
    """Return a row for each label of predictions as CSV; what is not defined is an empty cell.

    `aucs` are (K, 3), as of `class_auc_intervals`.
    """
    least = predicted.thresholds
    rows = (
        (
            *(predicted.class_names[one.index], one.pictures, one.predicted),
            *map(score_cell, (one.average_precision, one.recall, one.precision, one.f1)),
            score_cell(0.5 if least is None else least[one.index]),
            *map(score_cell, aucs[one.index]),
        )
        for one in scores
    )
    return csv_text(_COLUMNS, rows)


def label_figure(scores: Sequence[LabelScores], class_names: Sequence[str]) -> Figure:
    """Draw average precision and F1 of each label, the lowest average precision first.

    Of more than 50 labels those are drawn that come first.
    """
    shown = _lowest_first(scores)[:_MOST_ROWS]
    labels = plain_labels(class_names)
    names = [f"{labels[one.index]} ({one.pictures:,})" for one in shown]
    precisions = [one.average_precision for one in shown]
    title = "Labels, with the pictures that have each"
    figure, axes, places = class_bars(names, precisions, title, "average precision")
    f1 = [0.0 if math.isnan(one.f1) else one.f1 for one in shown]
    axes.plot(f1, places, "o", color=MUTED, ms=4, label="F1 at its threshold")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def curves_figure(scores: Sequence[LabelScores], predicted: Predictions) -> Figure | None:
    """Draw precision over recall of each label, the lowest average precision first.

    A dot is the label at its threshold, and a dotted line the precision of chance. Of more than 24
    labels those are drawn that come first; None where no picture has a label.
    """
    shown = _lowest_first(scores)[:_MOST_CURVES]
    if not shown:
        return None
    labels = plain_labels(predicted.class_names)
    figure, all_axes = panels(len(shown), 2.4, 2.2)
    for axes, one in zip(all_axes, shown, strict=True):
        own = predicted.targets[:, one.index]
        recall, precision = precision_recall(predicted.probs[:, one.index], own)
        axes.step([0.0, *recall], [precision[0], *precision], where="pre", color=ACCENT, lw=1.4)
        axes.axhline(one.pictures / len(own), color=MUTED, lw=1.0, ls=":")
        if not math.isnan(one.precision):
            axes.plot([one.recall], [one.precision], "o", color=WARNING, ms=5)
        tidy(axes, title=labels[one.index], x="recall", y="precision", grid="both")
        axes.set(xlim=(0, 1.02), ylim=(0, 1.05))
        in_percent(axes.xaxis, axes.yaxis)
    return figure


def _lowest_first(scores: Sequence[LabelScores]) -> list[LabelScores]:
    """Return the labels that pictures have by their average precision."""
    known = [one for one in scores if not math.isnan(one.average_precision)]
    return sorted(known, key=lambda one: one.average_precision)
