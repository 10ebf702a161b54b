"""What the folds of a cross-validation said and measured, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev

import numpy as np

from src.metrics.summary import metric_key
from src.records.run import Predictions
from src.statistics.paired_tests import corrected_resampled_t

__all__ = ["fold_means", "joined", "mean_of"]

# Of one fold alone: what says how sure its figure is, which for all of them is said otherwise.
_OF_ONE = ("_low", "_high")


def joined(folds: Sequence[Predictions]) -> Predictions:
    """The predictions of pictures that are held out by one fold each, by ascending sample id.

    Raises:
        ValueError: a picture is held out twice, or the folds know different classes.
    """
    if len({one.class_names for one in folds}) != 1:
        raise ValueError("the folds know different classes")
    ids = np.concatenate([one.sample_ids for one in folds])
    order = np.argsort(ids, kind="stable")
    if len(np.unique(ids)) < len(ids):
        raise ValueError("a picture is held out by two folds of one repeat")
    paths = [path for one in folds for path in one.paths or ()]
    return Predictions(
        sample_ids=ids[order],
        paths=tuple(paths[i] for i in order.tolist()) if len(paths) == len(ids) else None,
        targets=np.concatenate([one.targets for one in folds])[order],
        probs=np.concatenate([one.probs for one in folds])[order],
        class_names=folds[0].class_names,
    )


def mean_of(repeats: Sequence[Predictions]) -> Predictions:
    """The mean probabilities over repeats, which hold out the same pictures.

    Raises:
        ValueError: they do not.
    """
    first = repeats[0]
    if any(not np.array_equal(one.sample_ids, first.sample_ids) for one in repeats):
        raise ValueError("the repeats hold out different pictures")
    if len(repeats) == 1:
        return first
    probs = np.stack([one.probs for one in repeats]).mean(axis=0, dtype=np.float64)
    return replace(first, probs=probs.astype(np.float32))


def fold_means(values: Mapping[str, Sequence[float]], folds: int) -> dict[str, float]:
    """The mean of each metric over the folds, with what it says of the accuracy.

    `val/accuracy_low` and `val/accuracy_high` are its interval of 95 % by the corrected resampled
    t (see `selection.folds`), and every `val/{metric}` has the standard deviation over folds (of
    the sample) as `val/{metric}_sd`.

    Args:
        values: of each fold of all repeats, by metric key.
        folds: of one repeat.
    """
    found: dict[str, float] = {}
    for key, those in values.items():
        if key.endswith(_OF_ONE):
            continue
        found[key] = fmean(those)
        if key.startswith("val/") and key.count("/") == 1:
            found[f"{key}_sd"] = stdev(those)
    accuracy = metric_key("val", "accuracy")
    interval = corrected_resampled_t(values[accuracy], 1 / folds).interval
    found[f"{accuracy}_low"] = max(0.0, interval.low)
    found[f"{accuracy}_high"] = min(1.0, interval.high)
    return found
