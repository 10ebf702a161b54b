from __future__ import annotations

import numpy as np
import pytest

from src.statistics.evidence import Evidence
from src.statistics.winner_bias import expected_figure, expected_figures
from tests.statistics.fields import candidate, random_field


def test_of_equals_all_that_is_measured_apart_is_luck() -> None:
    """The law that suits errors of the size of the spread is a point: the mean of all."""
    generator = np.random.default_rng(0)
    measured = 0.8 + 0.02 * generator.standard_normal(2000)
    found = expected_figures(measured, np.full(2000, 0.02**2))
    assert np.sqrt(np.mean((found - 0.8) ** 2)) < 0.2 * 0.02


def test_of_a_normal_law_it_is_the_shrinkage_of_james_and_stein() -> None:
    generator = np.random.default_rng(0)
    true = 0.8 + 0.03 * generator.standard_normal(5000)
    measured = true + 0.02 * generator.standard_normal(5000)
    found = expected_figures(measured, np.full(5000, 0.02**2))
    expected = 0.8 + (measured - 0.8) * 0.03**2 / (0.03**2 + 0.02**2)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.15 * 0.02


def test_a_tail_of_bad_ones_does_not_make_the_best_unlike() -> None:
    generator = np.random.default_rng(0)
    true = np.concatenate([np.full(40, 0.9), np.linspace(0.3, 0.7, 20)])
    measured = true + 0.01 * generator.standard_normal(60)
    found = expected_figures(measured, np.full(60, 0.01**2))
    assert found[measured.argmax()] == pytest.approx(0.9, abs=0.003)


def test_what_does_not_vary_is_what_it_is() -> None:
    measured = np.array([0.5, 0.7, 0.7])
    assert expected_figures(measured, np.zeros(3)) == pytest.approx(measured)


def test_of_two_that_seem_equal_it_is_their_mean() -> None:
    right = np.arange(400) % 10 > 1
    ahead = right.copy()
    ahead[:3] = True
    evidence = Evidence.of([candidate("a", ahead), candidate("b", np.roll(right, 3))])
    found = expected_figure(evidence, 0)
    assert found == pytest.approx(float(evidence.figure.mean()), abs=1e-4)


def test_far_ahead_or_alone_there_is_nothing() -> None:
    field = random_field([0.95, 0.6, 0.5], [1] * 3, 2000)
    evidence = Evidence.of(field)
    expected = expected_figure(evidence, 0)
    assert expected == pytest.approx(evidence.figure[0], abs=5e-4)
    alone = Evidence.of(field[:1])
    assert expected_figure(alone, 0) == alone.figure[0]


def test_among_equals_the_corrected_figure_is_right_on_the_average_and_nearer_each_time() -> None:
    errors = []
    for seed in range(150):
        evidence = Evidence.of(random_field([0.8] * 12, [1] * 12, 300, seed=seed))
        first = int(evidence.figure.argmax())
        measured = float(evidence.figure[first])
        corrected = expected_figure(evidence, first)
        errors.append((measured - 0.8, corrected - 0.8))
    naive, ours = np.array(errors).T
    assert naive.mean() > 0.02 and abs(ours.mean()) < 0.006
    assert np.sqrt((ours**2).mean()) < 0.7 * np.sqrt((naive**2).mean())
