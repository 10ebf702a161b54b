"""The interface of a kind of targets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..machine.arrays import BoolArray, Float32Array, Float64Array, Int64Array, IntegerArray
from ..metrics.multilabel import cross_fitted_thresholds
from ..metrics.ordered import MEDIAN
from ..metrics.registry import PRIMARY, RANKING

__all__ = ["TargetKind", "lone_errors"]

Probs = NDArray[np.floating[Any]]
Labels = IntegerArray
# Sum of squared deviations of figures in [0, 1] that are all equal.
_ROUNDING = 1e-20


def fixed_thresholds(wanted: str | None, costs: Float64Array | None) -> Float64Array | None:
    """Return the thresholds of `TargetKind.decide` that no pictures choose.

    Args:
        wanted: what they are best for: "mae" or "cost".
        costs: (K, K) of each predicted class (column) for each true one (row).

    Returns:
        (1,) of the median, or (K * K,) the costs; None for anything else.
    """
    if wanted == "mae":
        return np.array([MEDIAN])
    return costs.ravel() if wanted == "cost" and costs is not None else None


class TargetKind(ABC):
    """A kind of labels that pictures have, and how predictions of it are judged.

    `probs` are (N, K) in [0, 1] throughout, `targets` (N,) classes or (N, K) 0 and 1, `preds` like
    the targets, and `thresholds` (K,) those of the labels, (N, K) where each picture has its own,
    or None for one half. A kind with `pixels` has answers of its own in the place of probabilities.

    Attributes:
        name: as in `data.target`.
        described: of a picture's targets, for sentences.
        sets: whether a picture has a set of labels.
        pixels: whether each pixel has a class, and there are no probabilities (N, K).
    """

    name: ClassVar[str]
    described: ClassVar[str]
    sets: ClassVar[bool] = False
    pixels: ClassVar[bool] = False

    @property
    def multi_hot(self) -> bool:
        """Whether targets are (N, K) 0 and 1: the labels, or the classes that a picture holds."""
        return self.sets or self.pixels

    def threshold_counts(self, num_classes: int) -> tuple[int, ...]:
        """Return how many thresholds `decide` takes, where they are those of all pictures."""
        return (num_classes,)

    @property
    def primary(self) -> str:
        """Plain name of the metric that runs are judged by unless another is asked for."""
        return PRIMARY[self.name]

    @property
    def measures(self) -> tuple[str, ...]:
        """The metrics that candidates can be ranked by, which `scores` knows."""
        return tuple(name for name, one in RANKING.items() if self.name in one.targets)

    @abstractmethod
    def checked(self, probs: ArrayLike, targets: ArrayLike) -> tuple[Probs, Labels]:
        """Return both as arrays.

        Raises:
            ValueError: they do not fit together, or hold what is no probability or no target.
        """

    def measured_on(self, probs: Probs, targets: Labels) -> Labels:
        """Return what figures of the same pictures must share to be comparable: the targets."""
        return targets

    @abstractmethod
    def decide(self, probs: Probs, thresholds: Probs | None = None) -> Labels:
        """Return the predicted targets."""

    def thresholds(self, probs: Probs, targets: Labels, wanted: str) -> Float64Array | None:
        """Return the thresholds of `decide` that are best for a metric on these pictures.

        None where the answer that is best for it needs none.
        """
        return None

    def cross_fitted_thresholds(
        self, probs: Probs, targets: Labels, groups: Labels, wanted: str
    ) -> Float64Array:
        """Return (N, M) `thresholds` for each picture that others chose; see `src.metrics`.

        Args:
            probs, targets, wanted: as of `thresholds`, of pictures and a metric that have some.
            groups: (N,) equal for pictures that go together.
        """

        def chosen(probs: Probs, targets: Labels) -> Float64Array:
            found = self.thresholds(probs, targets, wanted)
            assert found is not None
            return found

        return cross_fitted_thresholds(probs, targets, groups, chosen)

    def confidences(self, probs: Probs) -> Probs:
        """Return (N,) how sure each answer is: as its class, or as the least sure of all labels."""
        return probs.max(axis=1)

    def uncertainties(self, probs: Probs) -> Probs:
        """Return (N,) in [0, 1], 1 where the two most probable classes are equally so."""
        second, first = np.sort(probs, axis=1)[:, -2:].T
        return 1 - (first - second)

    @abstractmethod
    def right(self, preds: Labels, targets: Labels) -> BoolArray:
        """Return (N,) whether each prediction is the target."""

    @abstractmethod
    def losses(self, probs: Probs, targets: Labels) -> Float32Array:
        """Return (N,) the log-loss of each picture in nats."""

    @abstractmethod
    def calibration_error(
        self, probs: Probs, targets: Labels, preds: Labels | None = None
    ) -> float:
        """Compute the expected calibration error, in [0, 1].

        Args:
            probs, targets: as of the other methods.
            preds: what `decide` returns of them, where that is known.
        """

    @abstractmethod
    def constant(self, targets: Labels) -> float:
        """Compute the share of pictures that the best constant answer is right about."""

    def baseline(self, measure: str, probs: Probs, targets: Labels) -> float | None:
        """Return the figure of the best answer that is the same everywhere; None if not known.

        Of a loss it is the least one. An answer may be probabilities where the measure asks for
        them.
        """
        return None

    @abstractmethod
    def scores(
        self,
        measure: str,
        probs: Probs,
        preds: Labels,
        targets: Labels,
        groups: Int64Array | None = None,
    ) -> Float32Array:
        """Return (N,) scores, higher for better: their mean is the measure, or minus a loss.

        A measure that is no mean over pictures is the figure plus each picture's influence on it.

        Args:
            measure: one of `measures`.
            probs, preds, targets: of N pictures.
            groups: (N,) of pictures that go together, whose influences are to be added up; None
                where each picture stands for itself.

        Raises:
            ValueError: there is no such measure.
        """

    def no_such(self, measure: str) -> ValueError:
        """Return the error of `scores` about a measure that is none of `measures`."""
        return ValueError(
            f"the measure is {measure}: with {self.described} it must be of "
            f"{', '.join(self.measures)}"
        )

    def evaluate(
        self,
        probs: ArrayLike,
        targets: ArrayLike,
        class_names: Sequence[str],
        thresholds: Probs | None = None,
    ) -> dict[str, float]:
        """Compute every scalar metric, finite, by its plain name.

        Raises:
            ValueError: as `checked`, or when the number of names is not K.
        """
        probs, targets = self.checked(probs, targets)
        classes = targets.shape[1] if targets.ndim == 2 else probs.shape[1]
        if len(class_names) != classes:
            raise ValueError(f"There are {len(class_names)} class names for {classes} classes.")
        return self._metrics(probs, targets, self.decide(probs, thresholds), class_names)

    @abstractmethod
    def _metrics(
        self, probs: Probs, targets: Labels, preds: Labels, class_names: Sequence[str]
    ) -> dict[str, float]:
        """Compute every scalar metric of arrays that fit together."""

    def binary_targets(self, targets: Labels, num_classes: int) -> Int64Array:
        """Return (N, M) 0 and 1: the targets of the binary problems that this kind is made of.

        Raises:
            ValueError: it is made of none.
        """
        raise ValueError(f"targets of kind {self.name} are not made of binary problems")

    def from_binary(self, probs: Float32Array) -> Float32Array:
        """Return probabilities (N, K) from those (N, M) of the binary problems."""
        raise ValueError(f"targets of kind {self.name} are not made of binary problems")


def lone_errors(
    influence: Float64Array,
    deviations: Float64Array,
    squares: float,
    sizes: Labels,
    alone: Float64Array,
) -> Float64Array:
    """Return (N,) influence on the sum of classes' figures, with those that one picture gives each.

    One picture says nothing of the variance of its class's figure. The pictures of all classes do:
    it is taken to be the one that single pictures have within classes (a variance pooled over
    strata: Cochran, "Sampling Techniques", 1977, section 5A.12), and no less than the one between
    these figures, which are estimates of one law at best. The errors are laid on the pictures that
    it comes from, so that two models that answer alike keep errors that go together.

    Args:
        influence: (N,) on the figures of the other classes, 0 in sum.
        deviations: (N,) by how much the figures of a picture alone differ from the mean of its
            class, or of all classes with one picture, summed over its classes.
        squares: sum of squares of these differences, over pictures and classes.
        sizes: (K,) pictures of each class, above 0.
        alone: (L,) figures of the classes with one picture.
    """
    count, own = len(alone), float(deviations @ deviations)
    if not count or own < _ROUNDING:
        return influence
    variance = squares / (int((sizes - 1).sum()) + count - 1)
    if count > 1:
        variance = max(variance, float(alone.var(ddof=1)))
    # As much of them as makes the variances add up, whatever the two have in common.
    common, added = float(influence @ deviations), len(influence) ** 2 * count * variance
    return influence + (np.sqrt(common**2 + own * added) - common) / own * deviations
