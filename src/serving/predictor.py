"""From picture files to labels: the decoding, model and class names of one run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.decoding.decode import decode_picture
from ..data.decoding.picture_files import PictureError
from ..data.decoding.picture_format import PictureFormat
from ..data.sources.source import Problem
from ..machine.arrays import AnyArray, Float32Array, IntegerArray
from ..machine.openmp import compute_alone
from ..records.certainty import Certainty
from ..records.pictures import Pixels
from ..targets import TargetKind, kind_of
from .file_pages import OpenPages, Page, pages_in
from .inputs import MOST_VALUES, Limit, as_picture, check_request, named_picture, pixels_of
from .trust import JudgedAnswer, Trust

__all__ = [
    "Classify",
    "DamagedModel",
    "Decoded",
    "Describe",
    "Labelled",
    "Predictor",
    "kind_in",
]

T = TypeVar("T")
Classify = Callable[..., Float32Array]
# As `decode_picture` takes it.
Picture = bytes | Path | Image.Image | AnyArray
# As `Classify`, with features (N, F) float32 beside the probabilities.
Describe = Callable[..., tuple[Float32Array, Float32Array]]
# Pixels that are decoded at the same time; each takes up to 25 bytes meanwhile.
_PIXELS_AT_ONCE = 32_000_000
# Larger pictures are decoded one after another by one thread: the allocator keeps for every thread
# the memory of its largest picture.
_LARGE_PIXELS = 8_000_000


class DamagedModel(Exception):
    """The outputs of a model are not finite, so it is not the one that was trained."""


class Decoded(NamedTuple):
    """A picture as `decode_picture` takes it, or a page of a file; in each format of a model."""

    picture: Picture | Page
    pixels: list[Pixels]


@dataclass(frozen=True)
class Labelled:
    """A picture and its label, followed by the most probable of the other classes.

    Of label sets, `labels` are those from their thresholds on, maybe none.

    Attributes:
        path: as it was given.
        labels: k class names, or those of a set, the most probable first.
        probabilities: of these, in [0, 1].
        confidence: how sure the answer is, see `TargetKind.confidences`.
        uncertainty: how much its true label would teach, see `TargetKind.uncertainties`.
        judged: the answer; None where nothing judges it.
        every: K probabilities of all labels, of label sets; () for others.
    """

    path: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    confidence: float
    uncertainty: float
    judged: JudgedAnswer | None = None
    every: tuple[float, ...] = ()


class Predictor:
    """Labels pictures of any size and kind as its run does.

    Args:
        classify: decoded pictures (N, C, H, W), N at least 1, an array a format ->
            probabilities (N, K) float32, or of pixels (N, K, H, W).
        metadata: `class_names`, and the format that `PictureFormat.of` reads; with several
            `formats` the pictures are decoded to each of them, and `classify` takes as many
            arrays.
        describe: as `classify`, with features beside the probabilities; None for a model that
            gives no features.
        batch_size: pictures per call of `classify`.
        maps: arrays of a value a pixel and class that `classify` holds at once, where it answers
            about pixels.

    Attributes:
        formats: of the decoded pictures.
        kind: of the targets that it predicts.
        all_pages: whether it was trained on every picture of files that have several.
        deep: whether it was trained on more than 8 bits.
        values: float32 that it keeps of each pixel of a picture's own while it answers; 0 for a
            model that takes pictures in a size of its own.
        frames: it was trained on every so manyth frame of videos; None for none.
        certainty: the model's answers on calibration pictures, set by whoever has them; None for a
            model without calibration.
    """

    def __init__(
        self,
        classify: Classify,
        metadata: Mapping[str, Any],
        *,
        describe: Describe | None = None,
        batch_size: int = 128,
        maps: int = 1,
    ) -> None:
        self.class_names: tuple[str, ...] = tuple(metadata["class_names"])
        self.kind = kind_in(metadata)
        stored = metadata.get("thresholds")
        self._thresholds = None if stored is None else np.array(stored)
        self.certainty: Certainty | None = None
        self._classify = classify
        self._describe = describe
        self.formats = tuple(map(PictureFormat.of, metadata.get("formats", [metadata])))
        data = metadata.get("settings", {}).get("data", {})
        self.all_pages: bool = data.get("pages") == "all"
        self.frames: int | None = data.get("frames")
        form, self.values = self.formats[0], 0.0
        if form.windowed:  # picture and probabilities; then the best class, at full size
            self.values = form.scale**2 * (form.channels + maps * len(self.class_names)) + 3
        self.deep = any(form.dtype == "float32" for form in self.formats)
        self._batch_size = batch_size
        self._limit = Limit(_PIXELS_AT_ONCE)
        self._large, self._pages = ThreadPoolExecutor(1), OpenPages()
        self._room = Limit(MOST_VALUES)
        self._process = os.getpid()

    def _begin(self) -> None:
        """In a fork, which has no threads of its parent, go on with others."""
        if self._process != os.getpid():
            compute_alone()
            self._large, self._process = ThreadPoolExecutor(1), os.getpid()

    def probabilities(self, *images: Pixels) -> Float32Array:
        """Return the probabilities (N, K), or of pixels (N, K, H, W), float32 of decoded pictures.

        Raises:
            DamagedModel: not all of them are finite.
        """
        self._begin()
        return _finite(self._classify(*images))

    def decided(self, probs: NDArray[np.floating[Any]]) -> IntegerArray:
        """Return the answers to probabilities (N, K): classes (N,), or labels (N, K) 0 and 1."""
        return self.kind.decide(probs, self._thresholds)

    def label_sets(self, probs: Float32Array) -> list[list[int]]:
        """Return the places of the labels of each picture, of label probabilities (N, K).

        The most probable comes first.
        """
        there = self.decided(probs)
        ranked = np.argsort(-probs, axis=1, kind="stable")
        return [[k for k in order if one[k]] for order, one in zip(ranked.tolist(), there)]

    def most_probable(self, probs: NDArray[np.floating[Any]], count: int) -> list[list[str]]:
        """Return the names of so many classes of each picture, of probabilities (N, K)."""
        ranked = np.argsort(-probs, axis=1, kind="stable")[:, :count]
        return [[self.class_names[k] for k in order] for order in ranked.tolist()]

    def pages_in(self, file: Path) -> list[Path | Page]:
        """Return the pictures in a file, pages and frames as the model was trained on them."""
        return pages_in(file, all_pages=self.all_pages, frames=self.frames)

    @property
    def gives_features(self) -> bool:
        """Whether the model has features."""
        return self._describe is not None

    def described(self, *images: Pixels) -> tuple[Float32Array, Float32Array | None]:
        """Return probabilities (N, K) and features (N, F) float32; None for a model without them.

        Raises:
            DamagedModel: not all of them are finite.
        """
        if self._describe is None:
            return self.probabilities(*images), None
        self._begin()
        probs, features = self._describe(*images)
        return _finite(probs), _finite(features)

    def answer(self, rows: Iterable[object]) -> Float32Array:
        """Return probabilities (N, K) of N pictures, without the limits of a request.

        Memory does not grow with the number of pictures.

        Args:
            rows: the pictures, as `as_picture` takes them.

        Raises:
            ValueError: names the first row, counted from 0, or the file, that is no picture.
            DamagedModel: as `probabilities`.
        """
        return self.judge_all(rows, None)[0]

    def judge(
        self, rows: Sequence[object], trust: Trust | None
    ) -> tuple[Float32Array, list[JudgedAnswer]]:
        """Return probabilities (N, K) of the N pictures of a request, judged.

        Args:
            rows: the pictures, as `as_picture` takes them.
            trust: judges the answers; without it the list is empty.

        Raises:
            ValueError: as `answer`; or the request is too large (`check_request`).
            DamagedModel: as `probabilities`.
        """
        check_request(rows, self.values, masks=self.kind.pixels)
        return self.judge_all(rows, trust)

    def judge_all(
        self,
        rows: Iterable[object],
        trust: Trust | None,
        left_out: dict[int, Problem] | None = None,
    ) -> tuple[Float32Array, list[JudgedAnswer]]:
        """Return what `judge` does, without the limits of a request, and as `answer` does.

        Args:
            rows: the pictures.
            trust: judges the answers.
            left_out: takes the files that cannot be read by their rows, which have no answer;
                None to raise of the first one.

        Raises:
            ValueError, DamagedModel: as `answer`.
        """
        probs = [np.empty((0, len(self.class_names)), np.float32)]
        answers: list[JudgedAnswer] = []
        for batch in _batched(enumerate(rows), self._batch_size):
            with self.decoding([value for _, value in batch]) as waiting:
                found = [_of_row(*one, left_out) for one in zip(batch, waiting, strict=True)]
            decoded = [pixels for pixels in found if pixels is not None]
            if decoded:
                answered, judged = self._judged(decoded, trust)
                probs.append(answered)
                answers += judged
        return np.concatenate(probs), answers

    def label(
        self, files: Iterable[Path | Page], top_k: int = 5, trust: Trust | None = None
    ) -> Iterator[Labelled | Problem]:
        """Label picture files in their order; yield a `Problem` for a file that cannot be read.

        Args:
            files: the pictures, or pages of them.
            top_k: classes of each.
            trust: judges the answers; None to leave them unjudged.

        Raises:
            DamagedModel: as `probabilities`.
            ValueError: the model answers about pixels.
        """
        if self.kind.pixels:
            raise ValueError(
                "the model gives every pixel a class, and a picture no label: "
                "src.serving.masks.predicted_masks gives its masks"
            )
        top_k = min(top_k, len(self.class_names))
        for batch in _batched(files, self._batch_size):
            with self.decoding(batch) as waiting:
                decoded = [_of_file(*one) for one in zip(batch, waiting, strict=True)]
            images = [d for d in decoded if not isinstance(d, Problem)]
            probs, judged = self._judged(images, trust) if images else ((), [])
            answers = zip(probs, judged or repeat(None))
            for path, item in zip(batch, decoded, strict=True):
                if isinstance(item, Problem):
                    yield item
                else:
                    yield self._named(str(path), *next(answers), top_k)

    def _judged(
        self, pictures: Sequence[Sequence[Pixels]], trust: Trust | None
    ) -> tuple[Float32Array, list[JudgedAnswer]]:
        """Return the probabilities of decoded pictures, judged where something judges."""
        images = _stacked(pictures)
        if trust is None:
            return self.probabilities(*images), []
        probs, features = self.described(*images)
        return probs, trust.judged_answers(probs, features, self.class_names)

    def pixels(self, picture: Picture | Page) -> Pixels:
        """Return a picture (C, H, W) in the first of the formats.

        Raises:
            PictureError: as `decode_picture`.
        """
        if isinstance(picture, Page):
            return decode_picture(picture.file, self.formats[0], page=picture.number)
        return decode_picture(picture, self.formats[0])

    @contextmanager
    def decoding(self, values: Sequence[object]) -> Iterator[list[Future[Decoded]]]:
        """Yield pictures that threads decode; each gives its `PictureError` when it is asked for.

        Who decodes at the same time keeps within a limit of memory. Whoever leaves the block before
        all are decoded waits for no further ones.

        Args:
            values: the pictures, as `as_picture` takes them.
        """
        self._begin()
        with ThreadPoolExecutor() as pool:
            waiting = [self._submitted(pool, value) for value in values]
            try:
                yield waiting
            finally:
                for one in waiting:
                    one.cancel()

    def _submitted(self, pool: ThreadPoolExecutor, value: object) -> Future[Decoded]:
        try:
            picture = as_picture(value, deep=self.deep)
        except PictureError as error:
            refused: Future[Decoded] = Future()
            refused.set_exception(error)
            return refused
        pixels = pixels_of(picture, whole=self.values > 0)
        alone = pixels > _LARGE_PIXELS or isinstance(picture, Page)
        return (self._large if alone else pool).submit(self._decoded, picture, pixels)

    def room_for(self, value: object) -> AbstractContextManager[None]:
        """Wait until there is memory for what is kept of a picture; it is free after the block.

        `value` is the picture, as of `decoding`. Nothing is kept where `values` is 0.
        """
        return self._room.reserved(int(self.values * pixels_of(value)))

    def _decoded(self, picture: Picture | Page, pixels: int) -> Decoded:
        with self._limit.reserved(pixels):
            if not isinstance(picture, Page):
                return Decoded(picture, [decode_picture(picture, one) for one in self.formats])
            with self._pages.opened(picture) as file:
                decoded = [decode_picture(file, one, page=picture.number) for one in self.formats]
            return Decoded(picture, decoded)

    def _named(
        self, path: str, probs: Float32Array, judged: JudgedAnswer | None, top_k: int
    ) -> Labelled:
        if self.kind.sets:
            (order,) = self.label_sets(probs[None])
        else:  # the answer need not be the most probable one
            best = int(self.decided(probs[None])[0])
            others = np.argsort(-probs, kind="stable").tolist()
            order = [best, *(k for k in others if k != best)][:top_k]
        return Labelled(
            path=path,
            labels=tuple(self.class_names[k] for k in order),
            probabilities=tuple(float(probs[k]) for k in order),
            confidence=float(self.kind.confidences(probs[None])[0]),
            uncertainty=float(self.kind.uncertainties(probs[None])[0]),
            judged=judged,
            every=tuple(map(float, probs)) if self.kind.sets else (),
        )


def kind_in(metadata: Mapping[str, Any]) -> TargetKind:
    """Return the kind of targets in the metadata of a model; of older ones one class a picture."""
    settings = metadata.get("settings", {})
    return kind_of(settings.get("data", {}).get("target", "single"))


def _finite(values: Float32Array) -> Float32Array:
    if not np.isfinite(values).all():
        raise DamagedModel(
            "the model answers with what is no number (NaN or infinity): its weights are "
            "damaged, or it does not suit this machine's arithmetic"
        )
    return values


def _of_row(
    numbered: tuple[int, object],
    picture: Future[Decoded],
    left_out: dict[int, Problem] | None,
) -> list[Pixels] | None:
    """Return the pixels of a row; None of a file that is left out, and noted as such.

    Raises:
        ValueError: as `Predictor.answer`.
    """
    row, value = numbered
    with named_picture(row, value):
        try:
            return picture.result().pixels
        except PictureError as error:
            if left_out is None or not isinstance(value, Path | Page):
                raise
            left_out[row] = Problem(str(value), str(error))
            return None


def _of_file(path: Path | Page, picture: Future[Decoded]) -> list[Pixels] | Problem:
    try:
        return picture.result().pixels
    except PictureError as error:
        return Problem(str(path), str(error))


def _stacked(pictures: Sequence[Sequence[Pixels]]) -> list[Pixels]:
    """Return an array (N, C, H, W) per format, of N pictures in all formats."""
    return [np.stack(column) for column in zip(*pictures, strict=True)]


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
