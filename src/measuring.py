"""How good a trained network is on a part of the data, and what it costs to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src.data.datamodule import PictureData
from src.metrics.summary import evaluate, metric_key
from src.records import Predictions
from src.training import cost
from src.training.inference import autocast, predict
from src.training.score_maps import HasScoreMaps, class_maps
from src.training.task import ClassificationTask

__all__ = ["Measured", "class_mapper", "measure_cost", "measure_part"]


@dataclass(frozen=True)
class Measured:
    """Predictions of one part and the metrics computed from them, by `{part}/{metric}`."""

    predictions: Predictions
    metrics: dict[str, float]


def measure_part(
    task: ClassificationTask,
    data: PictureData,
    part: str,
    *,
    device: torch.device,
    precision: str,
    tta: str,
) -> Measured:
    """Predict every picture of "train", "val" or "test" and compute all metrics.

    Whoever measures "test" counts it first (src/data/ledger.py).
    """
    probs, targets, ids = predict(
        task, data.batches(part), device=device, precision=precision, tta=tta
    )
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


def measure_cost(
    task: ClassificationTask,
    data: PictureData,
    checkpoint: Path,
    *,
    device: torch.device,
    precision: str,
) -> dict[str, float]:
    """Parameters, FLOPs, latency, throughput, memory and size, by `cost/{name}`."""
    shape = (data.pictures.channels, *data.pictures.image_size)
    with autocast(device, precision):
        figures = cost.measure_cost(task.evaluated.eval(), shape, checkpoint=checkpoint)
    return {metric_key("cost", name): value for name, value in figures.items()}


def class_mapper(
    task: ClassificationTask, *, device: torch.device, precision: str
) -> Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.float32]] | None:
    """What maps pictures (B, C, H, W) and classes (B, M) to where these are, (B, M, H, W).

    See `src.training.score_maps`; None for a network that cannot tell.
    """
    network = task.evaluated.eval()
    if not isinstance(network, HasScoreMaps):
        return None

    def mapped(images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode(), autocast(device, precision):
            pictures = task.normalized(torch.from_numpy(images).to(device))
            maps = class_maps(network, pictures, torch.from_numpy(classes).to(device))
        found: NDArray[np.float32] = maps.cpu().numpy()
        return found

    return mapped
