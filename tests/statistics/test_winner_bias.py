from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

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


def test_of_errors_that_few_repeats_know_it_is_the_posterior_mean_by_students_law() -> None:
    generator = np.random.default_rng(0)
    true = 0.8 + 0.03 * generator.standard_normal(1000)
    measured = true + 0.02 * generator.standard_t(2, 1000)
    kept = np.abs(measured - 0.8) < 0.2
    measured = measured[kept]
    found = expected_figures(measured, np.full(kept.sum(), 4e-4), of_each=np.full(kept.sum(), 2.0))
    grid = np.linspace(0.6, 1.0, 401)
    posterior = student.pdf((measured[:, None] - grid) / 0.02, 2) * norm.pdf(grid, 0.8, 0.03)
    expected = posterior @ grid / posterior.sum(axis=1)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.25 * 0.02
    # Who is ahead by much is so by luck rather than by merit: the normal law would take less.
    normal = expected_figures(measured, np.full(kept.sum(), 4e-4))
    assert found[measured.argmax()] < normal[measured.argmax()] - 0.02


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


@pytest.mark.parametrize("freedom", [100, 40])
def test_a_spread_that_errors_might_have_by_chance_is_taken_for_theirs(freedom: int) -> None:
    """As far as 0.7 standard deviations of the ratio of two estimated variances, here simulated."""
    generator, count, variance = np.random.default_rng(0), 201, 1e-4
    of_spread = generator.chisquare(count - 1, 100_000) / (count - 1)
    of_errors = generator.chisquare(freedom, 100_000) / freedom
    most = 1 + 0.7 * float(np.log(of_spread / of_errors).std())
    places = norm.ppf((np.arange(count) + 0.5) / count)
    places *= np.sqrt(variance) / places.std(ddof=1)

    def kept(ratio: float, freedom: float) -> float:
        """Return the share of the measured spread that is left."""
        measured = 0.8 + np.sqrt(ratio) * places
        return np.ptp(expected_figures(measured, np.full(count, variance), freedom)) / np.ptp(
            measured
        )

    assert kept(0.98 * most, freedom) < 0.005
    assert kept(1.05 * most, freedom) > 0.02
    # Where the errors are known, so much of a spread is more than theirs.
    assert kept(0.98 * most, np.inf) > 0.02


def test_few_groups_know_less_of_their_errors() -> None:
    """The allowance is by the fourth moments of what each group moves, written out."""
    generator = np.random.default_rng(19)
    skill = generator.standard_normal(40) + 0.6 * generator.standard_normal((12, 40))
    right = np.repeat(skill + np.linspace(0.7, 0.3, 12)[:, None] > 0, 10, axis=1)
    field = [candidate(f"c{index}", row) for index, row in enumerate(right)]
    evidence = Evidence.of(field, np.repeat(np.arange(40), 10))
    moves = right[:, ::10] - right[:, ::10].mean(axis=1, keepdims=True)
    moves = moves - moves.mean(axis=0)
    squares = (moves**2).sum(axis=1)
    varies = ((moves**4).sum(axis=1) - squares**2 / 40).sum()
    freedom = 2 * (squares**2).sum() / varies
    variance = squares / 40 / 39 * 12 / 11
    figure = right.mean(axis=1)
    each = np.full(12, 39.0)
    likely = expected_figures(figure, variance, freedom, each)
    whole = variance.sum() / (figure * (1 - figure)).sum()
    expected = expected_figures(figure, likely * (1 - likely) * whole, freedom, each)
    first = int(figure.argmax())
    assert expected_figure(evidence, first) == pytest.approx(expected[first], abs=1e-5)
    known = expected_figures(figure, likely * (1 - likely) * whole)
    assert known[first] - expected[first] > 0.01


def test_one_that_a_blurred_field_leaves_far_outside_keeps_its_figure() -> None:
    """By a cost: the last one met a few dear mistakes, and the first makes none at all."""
    measured = np.r_[0.0, np.full(18, -0.3), -0.9]
    expected = expected_figures(measured, np.r_[1e-5, np.full(18, 1e-3), 2.0])
    assert np.isfinite(expected).all()
    assert expected[0] == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(expected[1:-1], -0.3, atol=0.02)
