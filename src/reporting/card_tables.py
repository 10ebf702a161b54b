"""Tables of a model card on classes, labels and pixels, and on how much probabilities say."""

from __future__ import annotations

import math

import numpy as np

from ..machine.text import percent
from ..metrics.class_maps import class_pixel_scores
from ..metrics.classification import class_scores, confusion_matrix
from ..metrics.multilabel import label_scores
from ..metrics.probabilistic import binned, reliability_bins
from ..metrics.roc import auc_interval, side
from ..records.run import Predictions
from .formatting import Table, metric_text

__all__ = ["PART_NAMES", "auc_text", "calibration_table", "class_scores_table"]

PART_NAMES = {"train": "training", "val": "validation", "test": "test"}
_MOST_CLASSES = 50
_CONFIDENCE_BINS = 5


def class_scores_table(part: str, predictions: Predictions) -> Table:
    """Return how well a model finds each class or label, of pixels too, by a part's predictions.

    With more than 50 those that it does worst.
    """
    kind = predictions.kind_of_targets
    if kind.sets:
        return _label_table(part, predictions)
    if kind.pixels:
        return _pixel_table(part, predictions)
    matrix = confusion_matrix(predictions.probs, predictions.targets, predictions.decided)
    rows = [r for r in class_scores(matrix) if r.pictures]
    title = f"Classes, {PART_NAMES[part]} part"
    if len(rows) > _MOST_CLASSES:
        title += f": the {_MOST_CLASSES} of {len(rows)} with the lowest recall"
        rows = sorted(rows, key=lambda row: row.recall)[:_MOST_CLASSES]
    names = predictions.class_names
    cells = tuple(
        (
            *(names[row.index], f"{row.pictures:,}"),
            f"{percent(row.recall)} ({percent(row.recall_low)} to {percent(row.recall_high)})",
            *(percent(row.precision), percent(row.f1), auc_text(predictions, row.index)),
            "" if row.confused_with is None else f"{names[row.confused_with]} ({row.confused})",
        )
        for row in rows
    )
    scores = ("recall (95 % interval)", "precision", "F1", "AUC (95 % interval)")
    heads = ("class", "pictures", *scores, "mostly confused with")
    return Table(title, heads, cells, frozenset(range(1, 6)))


def _pixel_table(part: str, predictions: Predictions) -> Table:
    scores = class_pixel_scores(
        predictions.probs["matrix"], predictions.class_names, predictions.groups
    )
    rows = sorted((r for r in scores if not math.isnan(r.iou)), key=lambda row: row.iou)
    title = f"Classes, {PART_NAMES[part]} part"
    if len(rows) > _MOST_CLASSES:
        title += f": the {_MOST_CLASSES} of {len(rows)} with the least IoU"
    cells = tuple(
        (
            *(row.name, f"{row.pictures:,}", percent(row.share)),
            percent(row.iou)
            + ("" if math.isnan(row.low) else f" ({percent(row.low)} to {percent(row.high)})"),
            *map(percent, (row.dice, row.recall, row.precision)),
        )
        for row in rows[:_MOST_CLASSES]
    )
    heads = ("class", "pictures", "share of pixels", "IoU (95 % interval)", "Dice", "recall")
    return Table(title, (*heads, "precision"), cells, frozenset(range(1, 7)))


def _label_table(part: str, predictions: Predictions) -> Table:
    scores = label_scores(predictions.probs, predictions.targets, predictions.decided)
    least = predictions.thresholds
    rows = sorted((r for r in scores if r.pictures), key=lambda row: row.average_precision)
    title = f"Labels, {PART_NAMES[part]} part"
    if len(rows) > _MOST_CLASSES:
        title += f": the {_MOST_CLASSES} of {len(rows)} with the least average precision"
    cells = tuple(
        (
            *(predictions.class_names[row.index], f"{row.pictures:,}"),
            *map(percent, (row.average_precision, row.recall, row.precision, row.f1)),
            f"{0.5 if least is None else least[row.index]:.3f}",
            auc_text(predictions, row.index),
        )
        for row in rows[:_MOST_CLASSES]
    )
    heads = ("label", "pictures", "average precision", "recall", "precision", "F1")
    both = "threshold", "AUC (95 % interval)"
    return Table(title, (*heads, *both), cells, frozenset(range(1, 8)))


def calibration_table(part: str, predictions: Predictions) -> Table:
    """Return accuracy by confidence, of a part with its probabilities."""
    probs, targets = predictions.probs, predictions.targets
    sets = predictions.kind_of_targets.sets
    if sets:  # each label of a picture has a probability
        bins = binned(probs.astype(np.float64).ravel(), targets.ravel() > 0, _CONFIDENCE_BINS)
    else:
        bins = reliability_bins(probs, targets, _CONFIDENCE_BINS, predictions.decided)
    rows = tuple(
        (
            f"{100 * low:.0f} to {percent(high, 0)}",
            f"{number:,}",
            percent(claimed),
            percent(right),
        )
        for low, high, number, claimed, right in zip(
            bins.edges[:-1], bins.edges[1:], bins.counts, bins.confidence, bins.accuracy
        )
        if number
    )
    what = "labels" if sets else "pictures"
    heads = ("confidence", what, "mean confidence", "accuracy")
    return Table(f"Calibration, {PART_NAMES[part]} part", heads, rows, frozenset({1, 2, 3}))


def auc_text(predicted: Predictions, k: int) -> str:
    """Return the AUC of a class with its 95 % interval, as in "0.912 (0.885 to 0.934)".

    Without an interval where a single picture, or group, is on a side.
    """
    found = auc_interval(*side(predicted.probs, predicted.targets, k), predicted.groups)
    auc, low, high = (metric_text("auc", one) for one in found)
    return auc if math.isnan(found[1]) else f"{auc} ({low} to {high})"
