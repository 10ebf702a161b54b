"""Answers of exported variants beside those of their original, batch by batch of pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..data.decoding.mask_files import LEFT_OUT
from ..machine.arrays import AnyArray, Int64Array, IntegerArray
from ..metrics.classification import mean_cost
from ..records.export import OF_MASKS
from ..records.pictures import Pixels
from ..records.pixel_answers import pixel_answers
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
        figure: by the metric; None where a logit is not finite.
    """

    largest_difference: float
    equal: float
    accuracy: float
    figure: float | None


@dataclass
class _Totals:
    largest: float = 0.0
    equal: int = 0
    right: int = 0
    counted: int = 0
    matrix: Int64Array | int = field(default=0)
    logits: list[AnyArray] = field(default_factory=list)
    targets: list[IntegerArray] = field(default_factory=list)


class LabelFigures:
    """Figures of models that label whole pictures.

    Args:
        metadata: of the run's checkpoints.
        metric: plain name of the one that judges the run, of those that its kind of targets has;
            "cost" of a run that answers by a table of costs.
    """

    def __init__(self, metadata: Mapping[str, Any], metric: str) -> None:
        self._kind, self._link = kind_in(metadata), metadata.get("link", "softmax")
        self._thresholds = metadata.get("thresholds")
        self._class_names, self._metric = metadata["class_names"], metric
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
            self._count(totals, reference[1], found, targets)

    def of(self, name: str) -> Figures:
        """Return the figures of a model over all pictures that were added."""
        totals = self._totals[name]
        equal, right = (one / totals.counted for one in (totals.equal, totals.right))
        return Figures(totals.largest, equal, right, self._figure(totals))

    def _figure(self, totals: _Totals) -> float | None:
        if not np.isfinite(totals.largest):
            return None
        probs = linked(np.concatenate(totals.logits), self._link)
        targets, least = np.concatenate(totals.targets), self._thresholds
        thresholds = None if least is None else np.array(least)
        if self._metric == "cost" and thresholds is not None:  # these are the table of costs
            costs = thresholds.reshape(len(self._class_names), -1)
            return mean_cost(costs, self._kind.decide(probs, thresholds), targets)
        found = self._kind.evaluate(probs, targets, self._class_names, thresholds)
        return found.get(self._metric)  # of one class alone there is no AUC

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
        found: tuple[AnyArray, AnyArray],
        targets: IntegerArray,
    ) -> None:
        """Count answers of a model, given its logits beside them, and those of the original."""
        logits, decided = found
        totals.logits.append(logits)
        totals.targets.append(targets)
        totals.counted += len(decided)
        totals.equal += int(self._kind.right(decided, reference).sum())
        totals.right += int(self._kind.right(decided, targets).sum())


class PixelFigures(LabelFigures):
    """Figures of models that give each pixel a class; pixels that are left out do not count.

    The logits that are compared are those of a window of each picture, the answers those of all.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        super().__init__(metadata, OF_MASKS)
        self._window = tuple(metadata["image_size"])
        self._classes = len(metadata["class_names"])

    def of(self, name: str) -> Figures:
        totals = self._totals[name]
        matrix = np.asarray(totals.matrix)[None]
        held = (matrix.sum(axis=2) > 0).astype(np.uint8)
        answers = pixel_answers(matrix, np.zeros(1), [None])
        metrics = self._kind.evaluate(answers, held, self._class_names)
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
        found: tuple[AnyArray, AnyArray],
        targets: IntegerArray,
    ) -> None:
        counting = targets != LEFT_OUT
        own, preds = targets[counting].astype(np.int64), found[1][counting]
        totals.counted += len(preds)
        totals.equal += int((preds == reference[counting]).sum())
        preds = np.where(preds == _NOT_FINITE, 0, preds)
        counts = np.bincount(own * self._classes + preds, minlength=self._classes**2)
        totals.matrix = totals.matrix + counts.reshape(self._classes, self._classes)


def variant_figures(metadata: Mapping[str, Any], metric: str) -> LabelFigures:
    """Return figures of models with this metadata, by a metric, to which pictures are added.

    Masks have mean IoU whatever the metric is.
    """
    if kind_in(metadata).pixels:
        return PixelFigures(metadata)
    return LabelFigures(metadata, metric)
