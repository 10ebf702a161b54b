"""Label arrays of any kind: (N,) int64, a class a picture, or (N, K) 0 and 1, its labels."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..machine.arrays import BoolArray, Int64Array, IntegerArray

__all__ = [
    "IGNORED",
    "class_columns",
    "has_class",
    "label_codes",
    "label_counts",
    "label_text",
    "labels_text",
    "memberships",
]

Labels = IntegerArray
# Between the names of a picture's labels, in texts and tables.
_SEPARATOR = ";"
# The class number of pixels that no loss and no metric counts; torch's own choice.
IGNORED = -100


def label_counts(targets: Labels, num_classes: int) -> Int64Array:
    """Return (K,) the pictures that have each label."""
    if targets.ndim == 1:
        return np.bincount(targets, minlength=num_classes)
    return targets.astype(np.int64).sum(axis=0)


def has_class(targets: Labels, label: int) -> BoolArray:
    """Return (N,) which pictures have a label."""
    return targets == label if targets.ndim == 1 else targets[:, label] > 0


def label_codes(targets: Labels) -> Int64Array:
    """Return (N,) codes, equal for pictures with the same labels; of one class a picture, it."""
    if targets.ndim == 1:
        return targets.astype(np.int64, copy=False)
    return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def memberships(targets: Labels) -> tuple[Int64Array, Int64Array]:
    """Return pictures and classes of all (picture, label) pairs, by picture.

    A picture without labels has the class K, one more than there are.
    """
    if targets.ndim == 1:
        return np.arange(len(targets)), targets.astype(np.int64, copy=False)
    bare = targets.sum(axis=1) == 0
    pictures, classes = np.nonzero(np.column_stack([targets, bare]))
    return pictures, classes


def label_text(target: Any, class_names: Sequence[str]) -> str:
    """Return the name of a class, or the names of a row's labels; "" for none."""
    if np.ndim(target) == 0:
        return class_names[int(target)]
    return labels_text([class_names[k] for k in np.flatnonzero(target).tolist()])


def labels_text(labels: Iterable[str]) -> str:
    """Return names divided by semicolons, in double quotes where they hold one, as in CSV."""
    text = io.StringIO()
    csv.writer(text, delimiter=_SEPARATOR, lineterminator="").writerow(labels)
    return text.getvalue()


def class_columns(class_names: Sequence[str], taken: Collection[str]) -> list[str]:
    """Return names (K,) of columns for classes, distinct, and none of those that are taken.

    A class is called by its name, and `class NAME` where that is taken.
    """
    names = list[str]()
    for name in class_names:
        others = {*taken, *names, *(set(class_names) - {name})}
        while name in others:
            name = f"class {name}"
        names.append(name)
    return names
