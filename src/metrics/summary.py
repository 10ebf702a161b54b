"""All scalar metrics of one set of predictions, and the keys under which they are logged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import classification, probabilistic, roc
from .registry import metric_of
from .share_intervals import wilson_interval
from .validation import checked

__all__ = [
    "accuracy_name",
    "metric_key",
    "metric_name",
    "per_class",
    "safe_class_names",
    "scalar_metrics",
]

_SPLITS = {"train": "training", "val": "validation", "test": "test"}
# More charts would hide the others on MLflow's page; the table of classes has them all.
_MOST_CLASSES_LISTED = 20
# Trackers bound a whole key by 250 characters; this leaves room for split and metric.
_LONGEST_NAME = 100


def metric_key(split: str, name: str) -> str:
    """Return the key of a metric: `metric_key("val", "accuracy")` is "val/accuracy".

    `split` is "train", "val" or "test", or "cost" for the cost of a model.
    """
    return f"{split}/{name}"


def accuracy_name(sets: bool) -> str:
    """Return what "accuracy" is called for readers; of label sets it counts exact matches."""
    return "exact match" if sets else "accuracy"


def metric_name(key: str, *, sets: bool = False, folds: bool = False) -> str:
    """Return what a metric is called for readers, the same wherever it is shown.

    "validation mean IoU" of "val/miou", "mean IoU" of "miou", "latency" of "cost/latency_ms",
    "recall of cat" of "recall/cat".

    Args:
        key: as `metric_key` makes it, or without the split.
        sets: whether pictures have sets of labels.
        folds: whether the figure is the mean of those of the folds of a cross-validation, which is
            not the figure of all pictures together: a kappa or an IoU of few pictures is another
            one. Of a part alone, as costs have no folds.
    """
    split, slash, rest = key.partition("/")
    if split in _SPLITS and slash:
        name = f"{_SPLITS[split]} {metric_name(rest, sets=sets)}"
        return f"{name} (mean of folds)" if folds else name
    name, class_name = (key, "") if split == "cost" else (split, rest)
    if name == "accuracy":
        shown = accuracy_name(sets)
    elif (known := metric_of(name)) is not None and known.title:
        shown = known.title
    else:
        shown = name.removeprefix("cost/").replace("_", " ")
    return f"{shown} of {class_name}" if class_name else shown


def scalar_metrics(
    probs: ArrayLike,
    targets: ArrayLike,
    class_names: Sequence[str],
    preds: NDArray[Any] | None = None,
) -> dict[str, float]:
    """Compute every scalar metric, finite, by its plain name (without the split).

    "accuracy" comes with its 95 % Wilson interval as "accuracy_low" and "accuracy_high";
    "top5_accuracy" is computed from six classes on, "auc" where there are targets of two of them,
    "recall/<class>" up to 20 classes and for classes that occur among the targets.

    Args:
        probs: (N, K) floating point in [0, 1], rows summing to one.
        targets: (N,) whole numbers in [0, K).
        class_names: K names; in keys they are those of `safe_class_names`.
        preds: (N,) the answers; None for the most probable classes.

    Raises:
        ValueError: as `validation.checked`, or when the number of names is not K.
    """
    probs, targets = checked(probs, targets)
    num_classes = probs.shape[1]
    if len(class_names) != num_classes:
        raise ValueError(f"There are {len(class_names)} class names for {num_classes} classes.")
    matrix = classification.confusion_matrix(probs, targets, preds)
    right = int(np.trace(matrix))
    low, high = wilson_interval(right, len(targets))
    metrics = {
        "accuracy": right / len(targets),
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": classification.balanced_accuracy(matrix),
        "macro_f1": classification.macro_f1(matrix),
        "log_loss": probabilistic.log_loss(probs, targets),
        "brier": probabilistic.brier(probs, targets),
        "calibration_error": probabilistic.reliability_bins(
            probs, targets, preds=preds
        ).calibration_error,
    }
    if not np.isnan(auc := roc.mean_auc(roc.class_aucs(probs, targets))):
        metrics["auc"] = auc
    if num_classes > 5:
        metrics["top5_accuracy"] = classification.top_k_accuracy(probs, targets, k=5)
    return metrics | per_class("recall", class_names, classification.per_class_recall(matrix))


def per_class(
    measure: str, class_names: Sequence[str], figures: Iterable[float]
) -> dict[str, float]:
    """Return K figures by their plain names, "recall/cat"; none of more than 20 classes.

    A class whose figure is NaN is left out.
    """
    if len(class_names) > _MOST_CLASSES_LISTED:
        return {}
    named = zip(safe_class_names(class_names), figures, strict=True)
    return {f"{measure}/{name}": float(one) for name, one in named if not np.isnan(one)}


def safe_class_names(class_names: Sequence[str]) -> list[str]:
    """Return class names for keys of metrics: distinct, and in the same order.

    Letters and digits of any script, space, `_`, `-` and `.` stay; anything else, `/` and `:`
    included because they separate keys and drives, becomes `_`. Names that are then equal, also
    those that differ only in case, which some databases ignore, get a number at their end.
    """
    taken: set[str] = set()
    safe = []
    for class_name in class_names:
        # A name of dots alone would be a folder, and a dot at either end is hidden or lost.
        stem = re.sub(r"[^\w.\- ]", "_", class_name)[:_LONGEST_NAME].strip(" .") or "_"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        safe.append(name)
    return safe
