"""Classifiers of targets that are made of binary problems, a model for each of them.

Several labels are one problem a label (one against the rest), ordered classes one a border between
classes (Frank & Hall 2001); see `src.targets`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..machine.arrays import AnyArray, Float32Array, Int64Array
from ..targets import kind_of
from .calibration import CalibratedModel

if TYPE_CHECKING:  # the search for heads is no part of a served model
    from .heads import ChosenHead

__all__ = ["BinaryModels", "choices_record", "choices_text"]


@dataclass(frozen=True, eq=False)
class BinaryModels:
    """Features (N, D) to probabilities (N, K), by a model of each of M binary problems.

    Attributes:
        kind: of the targets.
        models: M of them, or in the place of one the probability where all pictures agreed.
    """

    kind: str
    models: tuple[CalibratedModel | float, ...]

    @classmethod
    def fit(
        cls,
        kind: str,
        targets: AnyArray,
        num_classes: int,
        fit_one: Callable[[Int64Array], CalibratedModel],
    ) -> Self:
        """Fit a model to each problem.

        Args:
            kind: of the targets.
            targets: of the training pictures.
            num_classes: K.
            fit_one: fits a model of two classes to labels (N,) that are not all equal.
        """
        columns = kind_of(kind).binary_targets(targets, num_classes).T
        # Laplace's rule: what was never seen may come.
        return cls(
            kind,
            tuple(
                fit_one(labels)
                if labels.min() < labels.max()
                else (float(labels.sum()) + 1) / (len(labels) + 2)
                for labels in columns
            ),
        )

    def probabilities(self, features: Float32Array) -> Float32Array:
        """Return (N, K) of features (N, D); rows are NaN where a feature is NaN."""
        columns = [
            np.full(len(features), model, np.float32)
            if isinstance(model, float)
            else model.probabilities(features)[:, 1]
            for model in self.models
        ]
        return kind_of(self.kind).from_binary(np.stack(columns, axis=1))

    def plain(self) -> list[dict[str, Any]]:
        """Return what `restored` takes, for a file of skops' format."""
        return [
            {"constant": model} if isinstance(model, float) else model.plain()
            for model in self.models
        ]

    @classmethod
    def restored(cls, kind: str, plain: Sequence[dict[str, Any]]) -> Self:
        """Return the models of these values.

        Raises:
            KeyError, TypeError, ValueError: they are not those of models.
        """
        return cls(
            kind,
            tuple(
                float(one["constant"])
                if "constant" in one
                else CalibratedModel.restored(one, np.arange(2), 2)
                for one in plain
            ),
        )


def choices_text(choices: Sequence[ChosenHead]) -> str:
    """Describe the heads that were chosen, one for each problem, in a line."""
    kinds = Counter(one.head.kind for one in choices)
    named = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    seconds = sum(one.seconds for one in choices)
    return f"{len(choices)} heads ({named}), each chosen from {choices[0].tried} in {seconds:.0f} s"


def choices_record(choices: Sequence[ChosenHead]) -> dict[str, Any]:
    """Return plain values for the metadata of a model."""
    return {"summary": choices_text(choices), "problems": [one.record() for one in choices]}
