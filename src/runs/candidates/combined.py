"""What every combination of finished runs keeps of the validation part, and says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from src.metrics.summary import metric_key
from src.records.combination import Combination
from src.records.run import Predictions
from src.reporting.terminal import format_combination
from src.runs.candidates.candidate import Answers
from src.runs.candidates.members import Member

__all__ = ["metrics_of", "read_held_out", "seconds_of", "told", "write_held_out"]

_HELD_OUT = "held_out.parquet"


def write_held_out(checkpoints: Path, found: Combination, library: Sequence[Member]) -> None:
    """Keep the held-out answers: the model that was made has chosen by the labels of its own."""
    replace(library[0].held_out, probs=found.probs).write(checkpoints / _HELD_OUT)


def read_held_out(checkpoints: Path) -> Answers:
    """Of each picture that the members held out, what a combination made without it says.

    Raises:
        ValueError: the file is damaged or gone.
    """
    try:
        kept = Predictions.read(checkpoints / _HELD_OUT)
    except FileNotFoundError as error:
        raise ValueError(f"{checkpoints} has lost its {_HELD_OUT}") from error
    return kept.probs, kept.targets, kept.sample_ids


def metrics_of(found: Combination) -> dict[str, float]:
    """By `val/{metric}`, what is known when the combination is made."""
    values = {
        "accuracy": found.accuracy,
        "loss": found.log_loss,
        "best_member_accuracy": found.best_accuracy,
        "best_member_p_value": found.test.p_value,
    }
    return {metric_key("val", name): value for name, value in values.items()}


def seconds_of(members: Sequence[Member]) -> float:
    """Of the trainings of the members, without which there would be nothing to combine."""
    return float(np.nansum([member.training_seconds for member in members]))


def told(found: Combination, library: Sequence[Member]) -> str:
    """Return the members by weight and the outcome as text for a terminal."""
    targets = library[0].held_out.targets
    accuracies = [float(np.mean(one.probs.argmax(axis=1) == targets)) for one in library]
    return format_combination(found, accuracies, [one.latency_ms for one in library])
