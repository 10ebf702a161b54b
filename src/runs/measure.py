"""How good a trained model is on a part of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.data.loading.datamodule import PictureData
from src.metrics.summary import evaluate, metric_key
from src.records.run import Predictions

__all__ = ["Measured", "measure_part"]


@dataclass(frozen=True)
class Measured:
    """Predictions of one part and the metrics computed from them, by `{part}/{metric}`."""

    predictions: Predictions
    metrics: dict[str, float]


def measure_part(
    data: PictureData,
    part: str,
    answers: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]],
) -> Measured:
    """Compute all metrics from what a model says of "train", "val" or "test".

    Whoever measures "test" counts it first (src/data/splitting/test_usage.py).

    Args:
        data: the pictures that were predicted.
        part: of the data.
        answers: probabilities (N, K), targets (N,) and sample ids (N,) of its pictures.
    """
    probs, targets, ids = answers
    pictures = data.pictures
    paths = pictures.sample_paths
    predictions = Predictions(
        sample_ids=ids,
        paths=None if paths is None else tuple(paths[i] for i in ids.tolist()),
        targets=targets,
        probs=probs,
        class_names=tuple(pictures.class_names),
    )
    scores = evaluate(probs, targets, pictures.class_names)
    return Measured(predictions, {metric_key(part, name): value for name, value in scores.items()})
