"""How far the labels of picture files are trusted: what judges them, their columns, their sums."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError, input_of
from ...config.finished import PredictSettings
from ...machine.text import csv_cell
from ...records.certainty import Certainty
from ...reporting.certainty_report import Judgement, judgement_lines
from ...serving.bundle_files import CERTAINTY
from ...serving.predictor import Labelled
from ...serving.trust import NO_CALIBRATION, Promise, Trust
from ...targets.labels import labels_text

__all__ = ["Tally", "trust_in", "trust_of"]


def trust_in(model: Path, settings: PredictSettings) -> Trust | None:
    """Return what judges the answers of a model; None where nothing is asked for or known.

    Args:
        model: a run's checkpoint, or the bundle of an exported variant.
        settings: what is asked of the answers.

    Raises:
        ConfigError: the model has no calibration for what is asked, or it does not suffice.
    """
    promise = Promise(settings.coverage, settings.classwise, settings.max_error)
    if model.is_dir():
        if promise == Promise():
            return None
        raise ConfigError(
            f"{_asked(promise)}: the calibration is of the run as it was trained, and not of an "
            "exported variant, whose probabilities differ: leave variant out."
        )
    return trust_of(model.parent.parent, promise)


def trust_of(run: Path, promise: Promise) -> Trust | None:
    """Return what judges the answers of the run in a folder, as it was trained.

    None where it has no calibration and nothing is asked for.

    Raises:
        ConfigError: as `trust_in`.
    """
    with input_of("run"):
        certainty = Certainty.read(run / "model" / CERTAINTY)
    if certainty is None:
        if promise == Promise():
            return None
        raise ConfigError(f"{_asked(promise)}: {NO_CALIBRATION}.")
    with input_of():
        return Trust(certainty, promise)


def _asked(promise: Promise) -> str:
    return "coverage" if promise.max_error is None else "max_error"


class Tally:
    """Adds up judged answers.

    Args:
        trust: that judges them; None where nothing does.

    Attributes:
        trust: as it was given.
    """

    def __init__(self, trust: Trust | None) -> None:
        self.trust = trust
        self._pictures = self._answered = self._unlike = self._labels = self._empty = 0
        self._confidences = array("f")
        self._distances = array("f")

    @property
    def columns(self) -> list[str]:
        """The names of the columns that judged answers fill."""
        return [] if self.trust is None else self.trust.columns

    def add(self, item: Labelled) -> list[str]:
        """Count a picture, and return its cells for `columns`."""
        judged = item.judged
        if judged is None:
            return []
        self._pictures += 1
        self._confidences.append(item.confidence)
        if judged.distance is not None:
            self._distances.append(judged.distance)
        cells: list[str] = []
        if judged.label_set is not None:
            self._labels += len(judged.label_set)
            self._empty += not judged.label_set
            cells.append(csv_cell(labels_text(judged.label_set)))
        if judged.answered is not None:
            self._answered += judged.answered
            cells.append("yes" if judged.answered else "no")
        if judged.novelty is not None:
            cells.append(f"{judged.novelty:.4f}")
        if judged.unlike is not None:
            self._unlike += judged.unlike
            cells.append("yes" if judged.unlike else "no")
        return cells

    def sentences(self) -> list[str]:
        """Return lines on all pictures together; none where nothing was judged."""
        trust = self.trust
        if trust is None or not self._pictures:
            return []
        distances = np.array(self._distances, np.float32) if len(self._distances) else None
        shift = trust.shift(np.array(self._confidences, np.float32), distances)
        promise = trust.promise
        return judgement_lines(
            Judgement(
                certainty=trust.certainty,
                false_alarms=trust.false_alarms,
                pictures=self._pictures,
                coverage=promise.coverage,
                classwise=promise.classwise,
                labels=self._labels,
                empty=self._empty,
                max_error=promise.max_error,
                answered=self._answered,
                unlike=self._unlike,
                shift_p_value=None if shift is None else shift.p_value,
            )
        )
