"""What every combination of finished runs keeps of the validation part, and says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from src.ensembles.combine import Combination
from src.metrics.summary import metric_key
from src.records.run import Predictions
from src.reporting.tables import Table
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
    """The members by weight, and the outcome with its price in words."""
    targets = library[0].held_out.targets
    used = [i for i in np.argsort(-found.weights, kind="stable").tolist() if found.weights[i]]
    rows = tuple(
        (
            f"{found.weights[i]:.3f}",
            f"{100 * np.mean(library[i].probs.argmax(axis=1) == targets):.2f} %",
            f"{library[i].latency_ms:.3g}",
            library[i].name,
        )
        for i in used
    )
    table = Table(
        title=f"Members, by {found.way}",
        headers=("weight", "accuracy", "ms", "run"),
        rows=rows,
        numbers=frozenset({0, 1, 2}),
    )
    return "\n".join([table.text(100), *found.sentences, _price(found, library)])


def _price(found: Combination, library: Sequence[Member]) -> str:
    best = next(member for member in library if member.name == found.best)
    alone = f"{best.latency_ms:.3g} ms"
    if found.way == "soup":
        return f"It is one network, and takes as long as one of them: {alone} for a picture."
    members = [m for m, weight in zip(library, found.weights, strict=True) if weight]
    together = sum(member.latency_ms for member in members)
    return (
        f"One picture takes its members {together:.3g} ms, one after another; the best alone takes "
        f"{alone}."
    )
