"""From picture files to labels: the decoding, network and class names of one run, together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src.data.decode import PictureError, decode_picture
from src.data.source import Problem
from src.training.inference import autocast
from src.training.task import ClassificationTask
from src.training.tta import averaged_logits

__all__ = ["Labelled", "Predictor"]


@dataclass(frozen=True)
class Labelled:
    """A picture and its most probable classes, the first one being its label.

    Attributes:
        path: as it was given.
        labels: k class names, most probable first.
        probabilities: of these, in [0, 1].
    """

    path: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


class Predictor:
    """Labels pictures of any size and kind as the run that trained `task` would.

    Args:
        task: a trained task with its passport.
        device: where to compute.
        batch_size: pictures at once.
    """

    def __init__(
        self, task: ClassificationTask, device: torch.device, *, batch_size: int = 128
    ) -> None:
        self.class_names: tuple[str, ...] = tuple(task.passport["class_names"])
        self._task = task.to(device).eval()
        self._device = device
        self._batch_size = batch_size
        self._image_size = tuple(task.passport["image_size"])
        self._channels = task.passport["channels"]
        settings = task.passport["settings"]
        self._precision = settings["runtime"]["precision"]
        self._tta = settings["trainer"]["tta"]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K) of decoded pictures (N, C, H, W) uint8."""
        with torch.inference_mode(), autocast(self._device, self._precision):
            pictures = self._task.normalized(torch.from_numpy(images).to(self._device))
            logits = averaged_logits(self._task.evaluated, pictures, self._tta)
            probs: NDArray[np.float32] = torch.softmax(logits.double(), dim=1).float().cpu().numpy()
        return probs

    def label(self, files: Sequence[Path], top_k: int = 5) -> Iterator[Labelled | Problem]:
        """Label picture files in their order; a file that cannot be read gives a `Problem`."""
        top_k = min(top_k, len(self.class_names))
        with ThreadPoolExecutor() as pool:
            for batch in _batched(files, self._batch_size):
                decoded = list(pool.map(self._decoded, batch))
                images = [d for d in decoded if not isinstance(d, Problem)]
                probs = iter(self.probabilities(np.stack(images)) if images else ())
                for path, item in zip(batch, decoded, strict=True):
                    if isinstance(item, Problem):
                        yield item
                    else:
                        yield self._named(str(path), next(probs), top_k)

    def _decoded(self, path: Path) -> NDArray[np.uint8] | Problem:
        try:
            return decode_picture(path, image_size=self._image_size, channels=self._channels)
        except PictureError as error:
            return Problem(str(path), str(error))

    def _named(self, path: str, probs: NDArray[np.float32], top_k: int) -> Labelled:
        best = np.argsort(-probs, kind="stable")[:top_k]
        return Labelled(
            path,
            tuple(self.class_names[i] for i in best),
            tuple(float(probs[i]) for i in best),
        )


def _batched(items: Iterable[Path], size: int) -> Iterator[list[Path]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
