"""Trust in single answers of a model: label sets, abstention, and novelty.

Everything is judged by the model's own answers on calibration pictures (`Certainty`), which a
bundle carries.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from ..machine.arrays import BoolArray, Float32Array, Float64Array
from ..machine.text import share_meant
from ..records.certainty import Certainty
from ..statistics.conformal import coverage_rank, fewest_pictures, set_thresholds
from ..statistics.missed_labels import fewest_labelled, miss_threshold
from ..statistics.novelty import (
    FALSE_ALARMS,
    Shift,
    feature_rows,
    neighbour_distances,
    novelty_p_values,
    shift_test,
)
from ..statistics.risk_control import CONFIDENCE, AnsweringRule, answering_rule, fewest_answers

__all__ = [
    "NO_CALIBRATION",
    "Judged",
    "JudgedAnswer",
    "Promise",
    "Trust",
    "false_alarms",
    "familiar",
]

NO_CALIBRATION = (
    "this model carries no calibration: python -m src.select run=RUN makes a run the champion and "
    "calibrates it"
)
# One of each group, so that they are fewer than those of the part.
_OF_GROUPS = ", one of each group of pictures that belong together"
# With a larger share of false alarms, as of fewer than 19 calibration pictures, nothing is flagged.
_MOST_FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Promise:
    """The demands on a model's answers.

    Attributes:
        coverage: probability with which a picture's label set holds the true one, or the share of
            a picture's labels that it holds on average; None for no sets.
        classwise: whether each class, or label, is held with that probability where it is true.
        max_error: largest share of wrong answers; None to answer all.

    Raises:
        ValueError: a value is out of range.
    """

    coverage: float | None = None
    classwise: bool = False
    max_error: float | None = None

    def __post_init__(self) -> None:
        for name in ("coverage", "max_error"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                meant = share_meant(value)
                raise ValueError(f"{name} is {value:g}: it must be between 0 and 1{meant}")
        if self.classwise and self.coverage is None:
            raise ValueError("classwise is about the sets of labels: give coverage as well")


@dataclass(frozen=True)
class JudgedAnswer:
    """The trust in the answer to one picture.

    Attributes:
        label_set: class names, most probable first, that hold the true one, or ones, with the
            coverage asked for; None where none was asked for.
        answered: whether the label counts as an answer; None where all do.
        novelty: p-value of being like the training pictures; None for a model without features.
        unlike: whether the picture is flagged as unlike them; None where nothing is flagged.
        distance: to the training pictures; None as `novelty`.
    """

    label_set: tuple[str, ...] | None
    answered: bool | None
    novelty: float | None
    unlike: bool | None
    distance: float | None


@dataclass(frozen=True, eq=False)
class Judged:
    """N answers, judged.

    Attributes:
        sets: (N, K) bool, the labels of each set; None where none was asked for.
        answered: (N,) bool; None where all are.
        novelty: (N,) float64, p-values of being like the training pictures; None for a model
            without features.
        unlike: (N,) bool, flagged as unlike the training pictures; None where nothing is flagged,
            see `false_alarms`.
        distances: (N,) float32 to the training pictures; None as `novelty`.
    """

    sets: BoolArray | None
    answered: BoolArray | None
    novelty: Float64Array | None
    unlike: BoolArray | None
    distances: Float32Array | None


class Trust:
    """Judges answers by a promise, which the calibration pictures are able to keep.

    Args:
        certainty: of the model; None for one without calibration.
        promise: what is asked of the answers.

    Attributes:
        certainty, promise: as they were given.
        rule: which pictures are answered; None where all are.
        false_alarms: share of pictures like the training pictures that is flagged as unlike them;
            None where nothing is flagged, see `false_alarms`.

    Raises:
        ValueError: there is no calibration, or its pictures do not suffice for the promise; a
            clause that says so.
    """

    def __init__(self, certainty: Certainty | None, promise: Promise) -> None:
        if certainty is None:
            raise ValueError(NO_CALIBRATION)
        self.certainty, self.promise = certainty, promise
        self.false_alarms = false_alarms(certainty)
        self._thresholds = self._set_thresholds()
        self.rule = self._rule()

    @property
    def columns(self) -> list[str]:
        """Names of the fields of a `JudgedAnswer` that tables have, as they are filled."""
        filled = {
            "label_set": self.promise.coverage is not None,
            "answered": self.promise.max_error is not None,
            "novelty": self.certainty.sample is not None,
            "unlike": self.false_alarms is not None,
        }
        return [name for name in filled if filled[name]]

    def table(self, answers: Sequence[JudgedAnswer]) -> dict[str, list[Any]]:
        """Return the values of N judged answers for each of `columns`; label sets are lists."""
        table = {name: [getattr(one, name) for one in answers] for name in self.columns}
        if "label_set" in table:
            table["label_set"] = [list(names) for names in table["label_set"]]
        return table

    def _set_thresholds(self) -> Float64Array | None:
        known, promise = self.certainty, self.promise
        if promise.coverage is None:
            return None
        if known.of_sets:
            return _label_thresholds(known, promise.coverage, classwise=promise.classwise)
        count, candidates = len(known.targets), known.candidates
        if not promise.classwise and coverage_rank(count, promise.coverage, candidates) is None:
            fewest = fewest_pictures(promise.coverage, candidates)
            raise ValueError(
                f"coverage={promise.coverage:g} needs {fewest:,} calibration pictures, and this "
                f"model has {count:,}{_OF_GROUPS}: ask for less, or add pictures"
            )
        return set_thresholds(
            known.label_probs,
            known.targets,
            promise.coverage,
            num_classes=known.num_classes,
            classwise=promise.classwise,
            candidates=candidates,
        )

    def _rule(self) -> AnsweringRule | None:
        known, max_error = self.certainty, self.promise.max_error
        if max_error is None:
            return None
        if known.of_sets:
            raise ValueError(
                "max_error is for pictures with one label, and this model names several: go by the "
                "probability of each label instead"
            )
        counted = familiar(known)
        rule = answering_rule(
            known.confidences[counted],
            known.correct[counted],
            max_error,
            candidates=known.candidates,
        )
        if rule is not None:
            return rule
        fewest, count = fewest_answers(max_error, candidates=known.candidates), int(counted.sum())
        if count < fewest:
            raise ValueError(
                f"max_error={max_error:g} needs at least {fewest:,} calibration pictures without a "
                f"mistake, and this model has {count:,}{_OF_GROUPS}: allow more, or add pictures"
            )
        raise ValueError(
            f"max_error={max_error:g} cannot be promised: among the surest answers to "
            f"{count:,} calibration pictures too many are wrong to be {100 * CONFIDENCE:.0f} % "
            "sure: allow more, or look for wrong labels"
        )

    def judge(self, probs: Float32Array, features: Float32Array | None) -> Judged:
        """Judge answers.

        Args:
            probs: (N, K).
            features: (N, F); None for a model that gives none.
        """
        sample = self.certainty.sample
        novelty = unlike = distances = None
        if sample is not None and features is not None:
            distances = neighbour_distances(feature_rows(features, sample.scale), sample.rows)
            novelty = novelty_p_values(distances, sample.distances)
            if self.false_alarms is not None:
                unlike = novelty <= self.false_alarms
        answered = None
        if self.rule is not None:
            answered = probs.max(axis=1) >= self.rule.threshold
            answered = answered if unlike is None else answered & ~unlike
        sets = None if self._thresholds is None else probs >= self._thresholds
        return Judged(sets, answered, novelty, unlike, distances)

    def judged_answers(
        self,
        probs: Float32Array,
        features: Float32Array | None,
        class_names: Sequence[str],
    ) -> list[JudgedAnswer]:
        """Judge answers, as `judge` does, picture by picture and by the names of the classes."""
        judged = self.judge(probs, features)
        sets: Iterable[tuple[str, ...] | None] = repeat(None)
        if judged.sets is not None:
            order = np.argsort(-probs, axis=1, kind="stable")
            rows = zip(order, judged.sets, strict=True)
            sets = [tuple(class_names[i] for i in best if own[i]) for best, own in rows]
        columns = (judged.answered, judged.novelty, judged.unlike, judged.distances)
        plain = [repeat(None) if column is None else column.tolist() for column in columns]
        return [JudgedAnswer(*values) for _, *values in zip(probs, sets, *plain)]

    def shift(self, confidences: Float32Array, distances: Float32Array | None) -> Shift | None:
        """Test whether pictures with these confidences (N,) and distances (N,) are like training.

        Confidences compare only with those of the same model: one that was trained on more pictures
        is surer, which would look like a shift. Distances compare as `FeatureSample` says. None
        where nothing does.

        Args:
            confidences: as `TargetKind.confidences` has them, N at least 1.
            distances: as `Judged` has them; None where it has none.
        """
        new: dict[str, Float32Array] = {}
        known: dict[str, Float32Array] = {}
        if not self.certainty.refitted:
            new["confidences"] = confidences
            known["confidences"] = self.certainty.confidences
        sample = self.certainty.sample
        if distances is not None and sample is not None and sample.comparable:
            new["distances"] = distances
            known["distances"] = sample.distances
        return shift_test(new, known) if new else None


def _label_thresholds(known: Certainty, coverage: float, *, classwise: bool) -> Float64Array:
    """Return the least probability (K,) with which each of several labels belongs to a set."""
    if classwise:  # each by the pictures that have it
        rows, labels = np.nonzero(known.targets)
        return set_thresholds(
            known.label_probs[rows, labels],
            labels,
            coverage,
            num_classes=known.num_classes,
            classwise=True,
            candidates=known.candidates,
        )
    found = miss_threshold(known.label_probs, known.targets, coverage, candidates=known.candidates)
    if found is None:
        fewest = fewest_labelled(coverage, known.candidates)
        raise ValueError(
            f"coverage={coverage:g} needs {fewest:,} calibration pictures with labels, and this "
            f"model has {int(known.targets.any(axis=1).sum()):,}{_OF_GROUPS}: ask for less, or add "
            "pictures"
        )
    return np.full(known.num_classes, found)


def false_alarms(certainty: Certainty) -> float | None:
    """Return the share of pictures like the training pictures that is flagged as unlike them.

    Flagged is what has a p-value of this share at most. Of n calibration pictures p-values are
    multiples of 1 / (n + 1), so the share is the largest multiple up to 1 %, and the smallest one
    where n is below 99. It is the mean over calibrations: of one of them it varies like a beta
    distribution (Bates et al. 2023).

    Returns:
        a value in (0, 0.05]; None where nothing is flagged, since the model has no features, or so
        few calibration pictures that it would be above 5 %.
    """
    if certainty.sample is None:
        return None
    steps = len(certainty.sample.distances) + 1
    share = max(1, math.floor(FALSE_ALARMS * steps + 1e-9)) / steps
    return share if share <= _MOST_FALSE_ALARMS else None


def familiar(certainty: Certainty) -> BoolArray:
    """Return which calibration pictures (n,) are not flagged as unlike the training pictures."""
    least = false_alarms(certainty)
    if certainty.sample is None or least is None:
        return np.ones(len(certainty.targets), bool)
    distances = certainty.sample.distances
    return novelty_p_values(distances, distances) > least
