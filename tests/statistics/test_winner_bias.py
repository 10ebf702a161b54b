from __future__ import annotations

import math

import numpy as np
import pytest

from src.statistics.evidence import Evidence
from src.statistics.resampling import Errors, resample
from src.statistics.winner_bias import too_good
from tests.statistics.fields import candidate, random_field


def errors_of(drawn: np.ndarray) -> Errors:
    return Errors(drawn.astype(np.float32), np.full(drawn.shape[1], 0.5))


def test_of_two_equals_it_is_what_the_larger_of_two_numbers_is() -> None:
    """E max(X, Y) of two independent normal numbers is their standard deviation over root pi."""
    right = np.arange(400) % 10 > 1
    evidence = Evidence.of([candidate("a", right), candidate("b", np.roll(right, 3))])
    drawn = 0.02 * np.random.default_rng(0).standard_normal((2, 200_000))
    assert too_good(evidence, errors_of(drawn)) == pytest.approx(
        0.02 / math.sqrt(math.pi), rel=0.02
    )


def test_what_errors_spread_apart_is_drawn_together_and_no_further() -> None:
    """Measured apart by no more than errors do, twenty count as equal; by more, as less so."""
    drawn = 0.02 * np.random.default_rng(0).standard_normal((20, 100_000))
    found = []
    for spread in (0.0, 0.015, 0.04):
        shares = 0.8 + spread * np.linspace(-1, 1, 20)
        evidence = Evidence.of(
            [candidate(str(i), np.arange(2000) < round(2000 * s)) for i, s in enumerate(shares)]
        )
        found.append(too_good(evidence, errors_of(drawn)))
    equals = float(drawn.max(axis=0).mean())
    assert found[:2] == pytest.approx([equals, equals], rel=0.01)
    assert 0 < found[2] < 0.9 * equals


def test_far_ahead_or_alone_there_is_nothing() -> None:
    field = random_field([0.95, 0.6, 0.5], [1] * 3, 2000)
    evidence = Evidence.of(field)
    assert too_good(evidence, resample(evidence, 2000)) < 5e-4
    alone = Evidence.of(field[:1])
    assert too_good(alone, resample(alone, 2000)) < 5e-4


def test_among_equals_the_corrected_figure_is_right_on_the_average_and_nearer_each_time() -> None:
    errors = []
    for seed in range(150):
        evidence = Evidence.of(random_field([0.8] * 12, [1] * 12, 300, seed=seed))
        measured = float(evidence.accuracy.max())
        corrected = measured - too_good(evidence, resample(evidence, 300, seed))
        errors.append((measured - 0.8, corrected - 0.8))
    naive, ours = np.array(errors).T
    assert naive.mean() > 0.02 and abs(ours.mean()) < 0.005
    assert np.sqrt((ours**2).mean()) < 0.7 * np.sqrt((naive**2).mean())
