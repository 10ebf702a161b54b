"""What a trained network costs: its times are those of the answer that it is judged by."""

from __future__ import annotations

from pathlib import Path

import torch

from ...config.schema import stored_settings
from ...data.decoding.windows import window_places
from ...data.loading.datamodule import PictureData
from ...models.arithmetic import autocast
from ...serving.whole_network import WholeNetwork
from ...training.cost import measure_cost
from ...training.inference import views
from ...training.task import ClassificationTask
from .candidate import typical_picture

__all__ = ["answer_cost"]

_AT_ONCE = 128


def answer_cost(
    task: ClassificationTask, data: PictureData, device: torch.device, checkpoint: Path
) -> dict[str, float]:
    """Measure what a network costs, by plain name; see `src.training.cost.measure_cost`.

    What is timed is the answer to a picture, as it is judged, predicted and served: the mean over
    the views of `trainer.tta`, and of pictures that are taken in windows the whole of one of the
    median size, one at a time. "passes" is how often the network runs for it, so that figures
    without it are of runs from before answers were timed.

    Args:
        task: trained, on `device`.
        data: pictures in the network's format.
        checkpoint: whose size is measured.
    """
    settings, form = stored_settings(task.metadata["settings"]), data.pictures.format
    size, batch_size = form.image_size, _AT_ONCE
    passes = sum(1 for _ in views(torch.zeros(1, 1, 1, 1), settings.trainer.tta))
    if form.windowed:
        height, width = data.pictures.array_sizes[typical_picture(data)].tolist()
        size, batch_size = (height, width), 1
        passes *= len(window_places(size, form.image_size))
    network = task.evaluated.eval()
    with autocast(device, settings.runtime.precision):
        found = measure_cost(
            network,
            (form.channels, *form.image_size),
            batch_size=batch_size,
            checkpoint=checkpoint,
            answering=WholeNetwork(network, task.metadata).to(device),
            picture_shape=(form.channels, *size),
        )
    return {**found, "passes": passes}
