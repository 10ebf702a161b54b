from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2

from src.statistics.seeds import moderated, seed_spread


def layout(seed: int, repeats: int, pictures: int, seed_effect: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    latent = (
        1.0 + generator.standard_normal(pictures) + generator.standard_normal((repeats, pictures))
    )
    return latent + seed_effect * generator.standard_normal((repeats, 1)) > 0


def test_is_the_anova_of_pictures_and_seeds() -> None:
    right = layout(0, 4, 200, seed_effect=0.3)
    # Residuals written out, cell by cell.
    residual = right - right.mean(axis=0) - right.mean(axis=1, keepdims=True) + right.mean()
    chance = (residual**2).sum() / (3 * 199)
    between = right.mean(axis=1).var(ddof=1)
    spread = seed_spread([right])
    assert spread is not None
    assert spread.luck[0] == pytest.approx(chance / 200)
    assert spread.excess[0] == pytest.approx(max(1.0, between / (chance / 200)))
    assert spread.freedom[0] == 3
    assert spread.variance[0] == pytest.approx(between - chance / 200)


def test_finds_the_variance_of_seeds() -> None:
    """Many repeats: the variance of the true accuracies of trainings, known in closed form."""
    spread = seed_spread([layout(seed, 200, 3000, seed_effect=0.2) for seed in range(4)])
    assert spread is not None
    from scipy.stats import norm

    skills = 1.0 + 0.2 * np.random.default_rng(1).standard_normal(200_000)
    expected = norm.cdf(skills / math.sqrt(2)).var()
    assert spread.variance == pytest.approx(np.full(4, expected), rel=0.2)


def test_without_an_effect_there_is_no_excess() -> None:
    spread = seed_spread([layout(seed, 30, 500) for seed in range(20)])
    assert spread is not None
    assert spread.excess == pytest.approx(np.ones(20), abs=0.15)


def test_single_repeats_borrow() -> None:
    fields = [layout(seed, 5, 2000, seed_effect=0.2) for seed in range(6)]
    alone = layout(9, 1, 2000)
    spread = seed_spread([*fields, alone])
    assert spread is not None
    assert spread.variance[-1] == pytest.approx(np.median(spread.variance[:-1]), rel=0.3)
    assert 1 <= spread.freedom[-1] <= 24


def test_nobody_to_borrow_from() -> None:
    assert seed_spread([layout(0, 1, 50), layout(1, 1, 50)]) is None
    same = np.repeat(layout(0, 1, 50), 3, axis=0)
    assert seed_spread([same, layout(1, 1, 50)]) is None


def test_a_method_without_a_seed_has_no_spread_and_lends_none() -> None:
    same = np.repeat(layout(0, 1, 300), 3, axis=0)
    other = layout(1, 3, 300, seed_effect=0.4)
    alone, both = seed_spread([other]), seed_spread([same, other])
    assert alone is not None and both is not None
    assert both.variance[0] == 0 and both.freedom[0] == math.inf
    assert both.variance[1] == alone.variance[0]


def test_repeats_of_equal_accuracy_have_no_excess() -> None:
    right = np.array([[True, False, True, False], [False, True, False, True]])
    spread = seed_spread([right])
    assert spread is not None and spread.excess[0] == 1.0


def test_moderation_recovers_its_own_model() -> None:
    """Variances drawn from Smyth's prior: scale 2, 6 degrees of freedom; each seen with 4."""
    generator = np.random.default_rng(0)
    variances = 2.0 * 6 / generator.chisquare(6, 20_000)
    seen = variances * generator.chisquare(4, 20_000) / 4
    common, prior, shrunken, freedom = moderated(seen, np.full(20_000, 4.0))
    assert common == pytest.approx(2.0, rel=0.03)
    assert prior == pytest.approx(6.0, rel=0.1)
    assert freedom == pytest.approx(np.full(20_000, prior + 4))
    # Shrinking is for this: it comes closer to what the variances are.
    wrong, better = np.log(seen / variances).var(), np.log(shrunken / variances).var()
    assert better < 0.7 * wrong


def test_moderation_pools_what_does_not_differ() -> None:
    ratios, freedom = np.array([1.0, 1.1, 0.9]), np.array([2.0, 4.0, 2.0])
    common, prior, shrunken, total = moderated(ratios, freedom)
    assert common == pytest.approx((2 * 1.0 + 4 * 1.1 + 2 * 0.9) / 8)
    assert prior == math.inf
    assert shrunken == pytest.approx(np.full(3, common)) and total == pytest.approx(np.full(3, 8.0))


def test_one_with_level_repeats_lends_like_the_others() -> None:
    """Accuracies that are level by chance have a variance of 0, whose logarithm is none."""
    level = np.array([[True, False, True, False], [False, True, False, True]])
    spread = seed_spread([level, ~level, layout(0, 3, 4), layout(1, 1, 4)])
    assert spread is not None
    assert np.isfinite(spread.excess).all() and (spread.freedom >= 1).all()


def test_moderation_finds_no_more_freedom_than_there_is() -> None:
    _, prior, _, total = moderated(np.array([1.0, 30.0]), np.array([1.0, 1.0]))
    assert 1 < prior < math.inf
    assert list(total) == [2.0, 2.0]


def test_says_what_a_candidates_own_repeats_show() -> None:
    fields = [layout(seed, 4, 500, seed_effect=0.3) for seed in range(2)]
    same = np.repeat(layout(2, 1, 500), 3, axis=0)
    spread = seed_spread([*fields, layout(3, 1, 500), same])
    assert spread is not None
    assert spread.repeated.tolist() == [3.0, 3.0, 0.0, 0.0]
    for index, field in enumerate(fields):
        between = field.mean(axis=1).var(ddof=1)
        assert spread.ratio[index] == pytest.approx(between / spread.luck[index])


def test_the_most_that_repeats_leave_possible_is_an_upper_confidence_limit() -> None:
    fields = [layout(seed, 2 + seed, 400, seed_effect=0.2) for seed in range(3)]
    spread = seed_spread(fields)
    assert spread is not None and spread.repeated.sum() == 6
    expected = spread.ratio @ spread.repeated / chi2.ppf(0.2, 6)
    assert spread.at_most(0.2) == pytest.approx(max(1, expected)) and expected > spread.pooled
    same = np.repeat(fields[0][:1], 3, axis=0)  # a method without a seed
    alike = seed_spread([same])
    assert alike is not None and alike.at_most(0.2) == 1
