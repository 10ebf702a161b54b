"""Answers of exported variants beside those of their original, batch by batch of pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..data.decoding.masks import LEFT_OUT
from ..machine.arrays import AnyArray, Int64Array, IntegerArray
from ..records.pictures import Pixels
from ..records.pixels import pixel_answers
from .exported import Logits, linked, pixel_classifier_of
from .predictor import kind_in
from .variant_choice import largest_difference

__all__ = ["Figures", "LabelFigures", "PixelFigures", "variant_figures"]

_NOT_FINITE = -1  # in the place of a class


class Figures(NamedTuple):
    """The figures of a model.

    Attributes:
        largest_difference: of any logit from the original's; infinite where one is not finite.
        equal: share of the pictures, or pixels, that get the original's answer.
        accuracy: share of them that get their own label.
        miou: mean IoU of pixels; None for whole pictures.
    """

    largest_difference: float
    equal: float
    accuracy: float
    miou: float | None = None


@dataclass
class _Totals:
    largest: float = 0.0
    equal: int = 0
    right: int = 0
    counted: int = 0
    matrix: Int64Array | int = field(default=0)


class LabelFigures:
    """Figures of models that label whole pictures.

    Args:
        metadata: of the run's checkpoints.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._kind, self._link = kind_in(metadata), metadata.get("link", "softmax")
        self._thresholds = metadata.get("thresholds")
        self._totals: dict[str, _Totals] = defaultdict(_Totals)

    def add(self, models: Mapping[str, Logits], images: Pixels, targets: IntegerArray) -> None:
        """Add pictures.

        Args:
            models: by name, the original first.
            images: (N, C, H, W), N at least 1.
            targets: (N,) or (N, K), or (N, H, W) classes of pixels, 255 for those left out.
        """
        reference: tuple[AnyArray, AnyArray] | None = None
        for name, logits in models.items():
            found = self._answered(logits, images)
            reference = found if reference is None else reference
            totals = self._totals[name]
            totals.largest = max(totals.largest, largest_difference(reference[0], found[0]))
            self._count(totals, reference[1], found[1], targets)

    def of(self, name: str) -> Figures:
        """Return the figures of a model over all pictures that were added."""
        totals = self._totals[name]
        shares = (one / totals.counted for one in (totals.equal, totals.right))
        return Figures(totals.largest, *shares)

    def _answered(self, logits: Logits, images: Pixels) -> tuple[AnyArray, AnyArray]:
        """Return logits, and answers that are `_NOT_FINITE` where these are not."""
        raw = logits(images)
        decided = self._kind.decide(linked(raw, self._link), self._thresholds).astype(np.int64)
        decided[~np.isfinite(raw).all(axis=1)] = _NOT_FINITE
        return raw, decided

    def _count(
        self,
        totals: _Totals,
        reference: AnyArray,
        found: AnyArray,
        targets: IntegerArray,
    ) -> None:
        totals.counted += len(found)
        totals.equal += int(self._kind.right(found, reference).sum())
        totals.right += int(self._kind.right(found, targets).sum())


class PixelFigures(LabelFigures):
    """Figures of models that give each pixel a class; pixels that are left out do not count.

    The logits that are compared are those of a window of each picture, the answers those of all.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__(metadata)
        self._window = tuple(metadata["image_size"])
        self._classes = len(metadata["class_names"])

    def of(self, name: str) -> Figures:
        totals = self._totals[name]
        matrix = np.asarray(totals.matrix)[None]
        held = (matrix.sum(axis=2) > 0).astype(np.uint8)
        metrics = self._kind.epoch_metrics(pixel_answers(matrix, np.zeros(1), [None]), held)
        equal = totals.equal / totals.counted if totals.counted else 1.0
        return Figures(totals.largest, equal, metrics["pixel_accuracy"], metrics["miou"])

    def _answered(self, logits: Logits, images: Pixels) -> tuple[AnyArray, AnyArray]:
        height, width = self._window
        raw = logits(np.ascontiguousarray(images[:, :, :height, :width]))
        whole = raw
        if images.shape[2:] != self._window:
            whole = pixel_classifier_of(logits, self._window)(images)
        decided = whole.argmax(axis=1)
        decided[~np.isfinite(whole).all(axis=1)] = _NOT_FINITE
        return raw, decided

    def _count(
        self,
        totals: _Totals,
        reference: AnyArray,
        found: AnyArray,
        targets: IntegerArray,
    ) -> None:
        counting = targets != LEFT_OUT
        own, preds = targets[counting].astype(np.int64), found[counting]
        totals.counted += len(preds)
        totals.equal += int((preds == reference[counting]).sum())
        preds = np.where(preds == _NOT_FINITE, 0, preds)
        counts = np.bincount(own * self._classes + preds, minlength=self._classes**2)
        totals.matrix = totals.matrix + counts.reshape(self._classes, self._classes)


def variant_figures(metadata: Mapping[str, Any]) -> LabelFigures:
    """Return figures of models with this metadata, to which pictures are added."""
    return (PixelFigures if kind_in(metadata).pixels else LabelFigures)(metadata)
