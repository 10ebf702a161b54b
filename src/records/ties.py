"""The order of candidates: the rule by which the best of several is chosen everywhere."""

from __future__ import annotations

import math
import re

__all__ = ["MEAN_DIGITS", "METRICS", "Place", "place"]

Place = tuple[float, float, float, tuple[str | int, ...]]

# Keys of a run's metrics that decide between equal figures: its log-loss and its latency.
METRICS = ("val/log_loss", "cost/latency_ms")
# Digits of means over trainings that count. They are of float32 scores, in different orders, so
# that further digits differ by rounding. One picture of a million changes the last one.
MEAN_DIGITS = 6


def place(
    figure: float | None,
    *,
    maximize: bool,
    log_loss: float | None,
    latency: float | None,
    name: str,
) -> Place:
    """Return a key that sorts candidates, the best first.

    The figure decides; of equal ones the lower log-loss, then the lower latency, then the name,
    with its numbers as numbers. Candidates of equal figures have the same expected loss (regret),
    so that of these the probability of being the best prefers the one with the larger variance. The
    log-loss, a proper score of the same answers (Gneiting & Raftery, "Strictly Proper Scoring
    Rules, Prediction, and Estimation", JASA 2007), has information that the figure has not.

    Args:
        figure: what candidates are ranked by; None or NaN comes last.
        maximize: whether a higher figure is better.
        log_loss: on the same pictures, in nats; None or NaN, not known, comes last.
        latency: in milliseconds, likewise.
        name: of the candidate.
    """
    signed = -figure if maximize and figure is not None else figure
    numbers = re.split(r"([0-9]+)", name)
    parts = tuple(int(part) if index % 2 else part for index, part in enumerate(numbers))
    return _or_last(signed), _or_last(log_loss), _or_last(latency), parts


def _or_last(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
