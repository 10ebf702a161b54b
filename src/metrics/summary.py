"""All scalar metrics of one set of predictions, under the names that they are tracked by."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from src.metrics import classification, probabilistic
from src.metrics.inputs import checked
from src.metrics.intervals import wilson_interval

__all__ = ["evaluate", "metric_key", "safe_class_names"]

# More charts than this bury the others on a tracking page; the table of classes has them all.
_MOST_CLASSES_LISTED = 20
# Trackers bound a whole key by 250 characters; this leaves room for split and metric.
_LONGEST_NAME = 100


def metric_key(split: str, name: str) -> str:
    """The key a metric is tracked by: `metric_key("val", "accuracy")` is "val/accuracy".

    `split` is "train", "val" or "test", or "cost" for what a network costs to run.
    """
    return f"{split}/{name}"


def evaluate(probs: ArrayLike, targets: ArrayLike, class_names: Sequence[str]) -> dict[str, float]:
    """Every scalar metric, finite, by its plain name (without the split).

    "accuracy" comes with its 95 % Wilson interval as "accuracy_low" and "accuracy_high";
    "top5_accuracy" is there from six classes on, "recall/<class>" up to 20 classes and for the
    classes that occur among the targets.

    Args:
        probs: (N, K) floating point in [0, 1], rows summing to one.
        targets: (N,) whole numbers in [0, K).
        class_names: K names; in keys they appear as `safe_class_names` spells them.

    Raises:
        ValueError: as `inputs.checked`, or when the number of names is not K.
    """
    probs, targets = checked(probs, targets)
    num_classes = probs.shape[1]
    if len(class_names) != num_classes:
        raise ValueError(f"There are {len(class_names)} class names for {num_classes} classes.")
    matrix = classification.confusion_matrix(probs, targets)
    low, high = wilson_interval(int(np.trace(matrix)), len(targets))
    metrics = {
        "accuracy": classification.accuracy(probs, targets),
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": classification.balanced_accuracy(matrix),
        "macro_f1": classification.macro_f1(matrix),
        "log_loss": probabilistic.log_loss(probs, targets),
        "brier": probabilistic.brier(probs, targets),
        "calibration_error": probabilistic.calibration_error(probs, targets),
    }
    if num_classes > 5:
        metrics["top5_accuracy"] = classification.top_k_accuracy(probs, targets, k=5)
    if num_classes <= _MOST_CLASSES_LISTED:
        recalls = classification.per_class_recall(matrix)
        for name, recall in zip(safe_class_names(class_names), recalls, strict=True):
            if not np.isnan(recall):
                metrics[f"recall/{name}"] = float(recall)
    return metrics


def safe_class_names(class_names: Sequence[str]) -> list[str]:
    """The class names as a tracker takes them in keys: distinct, and in the same order.

    Letters and digits of any script, space, `_`, `-` and `.` stay; anything else, `/` and `:`
    included because they part keys and drives, becomes `_`. Names that coincide after that, as
    all that differ only in case do for some databases, are told apart by a number at their end.
    """
    taken: set[str] = set()
    safe = []
    for class_name in class_names:
        # A name of dots alone would be read as a folder, and one at either end hides or vanishes.
        stem = re.sub(r"[^\w.\- ]", "_", class_name)[:_LONGEST_NAME].strip(" .") or "_"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        safe.append(name)
    return safe
