"""From picture files to labels: the decoding, network and class names of one run, together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from src.data.decode import PictureError, decode_picture
from src.data.source import Problem
from src.data.transforms import normalize
from src.serving.inputs import as_picture
from src.training.inference import MEMORY_FORMATS, autocast
from src.training.tta import averaged_logits

__all__ = ["Labelled", "Predictor"]

T = TypeVar("T")


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
    """Labels pictures of any size and kind as the run that trained `network` would.

    Args:
        network: trained, normalised pictures (B, C, H, W) -> logits (B, K).
        passport: what the run's checkpoints say of it; see `ClassificationTask`.
        device: where to compute.
        batch_size: pictures at once.
    """

    def __init__(
        self,
        network: nn.Module,
        passport: Mapping[str, Any],
        device: torch.device,
        *,
        batch_size: int = 128,
    ) -> None:
        self.class_names: tuple[str, ...] = tuple(passport["class_names"])
        settings = passport["settings"]
        runtime = settings["runtime"]
        self._memory_format = MEMORY_FORMATS[runtime["memory_format"]]
        self._network = network.to(device).to(memory_format=self._memory_format).eval()
        self._mean = torch.tensor(passport["mean"], device=device)
        self._std = torch.tensor(passport["std"], device=device)
        self._device = device
        self._batch_size = batch_size
        self._image_size = tuple(passport["image_size"])
        self._channels = passport["channels"]
        self._precision = runtime["precision"]
        self._tta = settings["trainer"]["tta"]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, K) of decoded pictures (N, C, H, W) uint8."""
        with torch.inference_mode(), autocast(self._device, self._precision):
            pixels = torch.from_numpy(images).to(self._device)
            pictures = normalize(pixels, self._mean, self._std)
            pictures = pictures.contiguous(memory_format=self._memory_format)
            logits = averaged_logits(self._network, pictures, self._tta)
            probs: NDArray[np.float32] = torch.softmax(logits.double(), dim=1).float().cpu().numpy()
        return probs

    def answer(self, rows: Sequence[object]) -> NDArray[np.float32]:
        """Probabilities (N, K) of N pictures, each as `as_picture` takes it.

        Raises:
            ValueError: names the first row, counted from 0, that is no picture.
        """
        probs = [np.empty((0, len(self.class_names)), np.float32)]
        with ThreadPoolExecutor() as pool:
            for batch in _batched(enumerate(rows), self._batch_size):
                probs.append(self.probabilities(np.stack(list(pool.map(self._row, batch)))))
        return np.concatenate(probs)

    def label(self, files: Iterable[Path], top_k: int = 5) -> Iterator[Labelled | Problem]:
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

    def _row(self, numbered: tuple[int, object]) -> NDArray[np.uint8]:
        row, value = numbered
        try:
            return self._pixels(as_picture(value))
        except PictureError as error:
            raise ValueError(f"the picture in row {row} {error}") from None

    def _decoded(self, path: Path) -> NDArray[np.uint8] | Problem:
        try:
            return self._pixels(path)
        except PictureError as error:
            return Problem(str(path), str(error))

    def _pixels(self, picture: bytes | Path | Image.Image) -> NDArray[np.uint8]:
        return decode_picture(picture, image_size=self._image_size, channels=self._channels)

    def _named(self, path: str, probs: NDArray[np.float32], top_k: int) -> Labelled:
        best = np.argsort(-probs, kind="stable")[:top_k]
        return Labelled(
            path,
            tuple(self.class_names[i] for i in best),
            tuple(float(probs[i]) for i in best),
        )


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
