"""Thresholds of labels by what they are best for, judged on other pictures.

Pictures are pairs of handwritten digits, or one digit and nothing, whose labels are the digits that
they show; an eleventh label, of one picture in ten, is drawn at random, as one that a model cannot
learn. Logistic regressions on the pixels of few pictures give the probabilities, validation
pictures choose the thresholds, and others judge. No data set's test part is used.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier

from benchmarks.table import Row
from src.metrics.multilabel import best_thresholds, f1_scores, micro_f1

__all__ = ["measure"]

_RULES = ("micro_f1", "macro_f1", "half")
_TRAINING, _VALIDATION, _JUDGED, _DRAWS = (60, 300), (100, 400), 3_000, 20
# Labels named for each that is there.
_LEAST, _MOST = 0.8, 1.25


def measure() -> list[Row]:
    """Labels named for each true one, and what is right of them, by rule and number of pictures."""
    rng, rows = np.random.default_rng(0), []
    for training in _TRAINING:
        for validation in _VALIDATION:
            draws = [dict(_judged(rng, training, validation)) for _ in range(_DRAWS)]
            for rule in _RULES:
                named, macro, micro, hamming, exact = np.mean(
                    [draw[rule] for draw in draws], axis=0
                )
                rows.append(
                    Row(
                        f"thresholds by {validation} pictures of a model of {training}, {rule}",
                        f"{named:.2f} labels named for each that is there; macro F1 "
                        f"{100 * macro:.1f} %, micro F1 {100 * micro:.1f} %, Hamming loss "
                        f"{100 * hamming:.1f} %, exact match {100 * exact:.1f} %",
                        f"{_LEAST} to {_MOST} with the default" if rule == _RULES[0] else "no bar",
                        _LEAST <= named <= _MOST if rule == _RULES[0] else None,
                    )
                )
    return rows


def _judged(
    rng: np.random.Generator, training: int, validation: int
) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield each rule with named labels a true one, both F1, Hamming loss and exact match."""
    order = rng.permutation(1797)
    pixels, sets = _pairs(rng, order[:500], training)
    model = MultiOutputClassifier(LogisticRegression(max_iter=300)).fit(pixels, sets)

    def answered(
        ids: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        pixels, sets = _pairs(rng, ids, count)
        return np.stack([one[:, 1] for one in model.predict_proba(pixels)], axis=1), sets

    chosen, judged = answered(order[500:1100], validation), answered(order[1100:], _JUDGED)
    probs, sets = judged
    for rule in _RULES:
        least = 0.5 if rule == "half" else best_thresholds(*chosen, rule)
        found = (probs >= least).astype(np.uint8)
        yield (
            rule,
            (
                found.sum() / sets.sum(),
                float(np.mean(f1_scores(found, sets))),
                micro_f1(found, sets),
                float(np.mean(found != sets)),
                float(np.mean((found == sets).all(axis=1))),
            ),
        )


def _pairs(
    rng: np.random.Generator, ids: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return pixels (N, 128) and labels (N, 11) of pairs of some digits."""
    data = load_digits()
    first, second = rng.choice(ids, (2, count))
    both, places = rng.random(count) < 0.7, np.arange(count)
    pixels = np.hstack([data.data[first], np.where(both[:, None], data.data[second], 0)]) / 16
    sets = np.zeros((count, 11), np.uint8)
    sets[places, data.target[first]] = 1
    sets[places[both], data.target[second][both]] = 1
    sets[:, 10] = rng.random(count) < 0.1
    return pixels, sets
