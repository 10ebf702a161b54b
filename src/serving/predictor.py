"""From picture files to labels: the decoding, model and class names of one run, together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.data.decode import PictureError, PictureFormat, decode_picture
from src.data.source import Problem
from src.serving.inputs import as_picture

__all__ = ["Classify", "DamagedModel", "Labelled", "Predictor"]

T = TypeVar("T")
Classify = Callable[..., NDArray[np.float32]]
Pixels = NDArray[np.uint8]


class DamagedModel(Exception):
    """A model gives answers that are no probabilities, so it is not the one that was trained."""


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
    """Labels pictures of any size and kind as the run that it comes from would.

    Args:
        classify: decoded pictures (N, C, H, W) uint8, N at least 1, an array a format ->
            probabilities (N, K) float32.
        passport: what the run's files say of it: `class_names`, and the format that
            `PictureFormat.of` reads; with several `formats` the pictures are decoded to each of
            them, and `classify` takes as many arrays.
        batch_size: pictures at once.

    Attributes:
        formats: that pictures are decoded to.
    """

    def __init__(
        self, classify: Classify, passport: Mapping[str, Any], *, batch_size: int = 128
    ) -> None:
        self.class_names: tuple[str, ...] = tuple(passport["class_names"])
        self._classify = classify
        self.formats = tuple(map(PictureFormat.of, passport.get("formats", [passport])))
        self._batch_size = batch_size

    def probabilities(self, *images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what `classify` gives to decoded pictures, (N, K) float32.

        Raises:
            DamagedModel: not all of it are finite numbers.
        """
        probs = self._classify(*images)
        if not np.isfinite(probs).all():
            raise DamagedModel(
                "the model answers with what is no number (NaN or infinity): its weights are "
                "damaged, or it does not suit this machine's arithmetic"
            )
        return probs

    def answer(self, rows: Sequence[object]) -> NDArray[np.float32]:
        """Probabilities (N, K) of N pictures, each as `as_picture` takes it.

        Raises:
            ValueError: names the first row, counted from 0, that is no picture.
            DamagedModel: as `probabilities`.
        """
        probs = [np.empty((0, len(self.class_names)), np.float32)]
        with ThreadPoolExecutor() as pool:
            for batch in _batched(enumerate(rows), self._batch_size):
                probs.append(self.probabilities(*_stacked(list(pool.map(self._row, batch)))))
        return np.concatenate(probs)

    def label(self, files: Iterable[Path], top_k: int = 5) -> Iterator[Labelled | Problem]:
        """Label picture files in their order; a file that cannot be read gives a `Problem`.

        Raises:
            DamagedModel: as `probabilities`.
        """
        top_k = min(top_k, len(self.class_names))
        with ThreadPoolExecutor() as pool:
            for batch in _batched(files, self._batch_size):
                decoded = list(pool.map(self._read, batch))
                images = [d for d in decoded if not isinstance(d, Problem)]
                probs = iter(self.probabilities(*_stacked(images)) if images else ())
                for path, item in zip(batch, decoded, strict=True):
                    if isinstance(item, Problem):
                        yield item
                    else:
                        yield self._named(str(path), next(probs), top_k)

    def pixels(self, picture: bytes | Path | Image.Image) -> NDArray[np.uint8]:
        """Return a picture (C, H, W) in the first of the formats.

        Raises:
            PictureError: as `decode_picture`.
        """
        return _decoded(picture, self.formats[0])

    def _all_pixels(self, picture: bytes | Path | Image.Image) -> list[Pixels]:
        return [_decoded(picture, wanted) for wanted in self.formats]

    def _row(self, numbered: tuple[int, object]) -> list[Pixels]:
        row, value = numbered
        try:
            return self._all_pixels(as_picture(value))
        except PictureError as error:
            raise ValueError(f"the picture in row {row} {error}") from None

    def _read(self, path: Path) -> list[Pixels] | Problem:
        try:
            return self._all_pixels(path)
        except PictureError as error:
            return Problem(str(path), str(error))

    def _named(self, path: str, probs: NDArray[np.float32], top_k: int) -> Labelled:
        best = np.argsort(-probs, kind="stable")[:top_k]
        return Labelled(
            path,
            tuple(self.class_names[i] for i in best),
            tuple(float(probs[i]) for i in best),
        )


def _decoded(picture: bytes | Path | Image.Image, wanted: PictureFormat) -> Pixels:
    return decode_picture(
        picture, image_size=wanted.image_size, channels=wanted.channels, fit=wanted.fit
    )


def _stacked(pictures: Sequence[Sequence[Pixels]]) -> list[Pixels]:
    """An array (N, C, H, W) a format, of N pictures in all formats."""
    return [np.stack(column) for column in zip(*pictures, strict=True)]


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
