from __future__ import annotations

import math

import numpy as np
import pytest

from src.metrics.share_intervals import variance_freedom
from src.statistics.evidence import Evidence
from tests.statistics.fields import candidate, random_field


def test_variances_and_covariances_are_numpys() -> None:
    field = random_field([0.7, 0.8, 0.9], [1, 1, 1])
    evidence = Evidence.of(field)
    expected = np.cov(np.stack([one.right[0] for one in field])) / 400
    assert evidence.variance == pytest.approx(np.diagonal(expected), rel=1e-5)
    assert evidence.shared == pytest.approx(expected, rel=1e-4)
    assert evidence.seeds is None and np.isinf(evidence.freedom).all()


def test_variance_of_a_difference_counts_two_pictures_more() -> None:
    """Bonett & Price 2012, from the four cells of the table."""
    field = random_field([0.7, 0.8], [1, 1])
    first, second = field[0].right[0], field[1].right[0]
    ahead, behind = (first & ~second).sum(), (second & ~first).sum()
    up, down = (ahead + 1) / 402, (behind + 1) / 402
    evidence = Evidence.of(field)
    assert evidence.difference[1, 0] == pytest.approx(up - down, abs=1e-9)
    expected = (up + down - (up - down) ** 2) / 402
    # An unbiased variance divides by one picture less.
    assert evidence.difference_variance[1, 0] == pytest.approx(expected, rel=1 / 398)


def test_the_crossed_variance_is_unbiased() -> None:
    """Over many fields the mean variance is that of the accuracies, seeds included."""
    shares, variances = [], []
    for seed in range(600):
        evidence = Evidence.of(random_field([0.8] * 4, [3] * 4, 300, seed=seed, seed_effect=0.15))
        shares.append(evidence.figure[0])
        variances.append(evidence.variance[0])
    # Six per cent is the standard error of a variance from 600 values.
    assert np.mean(variances) == pytest.approx(np.var(shares), rel=0.15)


def test_freedom_counts_the_seeds_only_as_far_as_they_matter() -> None:
    stable = Evidence.of(random_field([0.8, 0.8], [3, 3], 300))
    unstable = Evidence.of(random_field([0.8, 0.8], [3, 3], 30_000, seed_effect=0.3))
    assert (stable.freedom > 10).all()
    # Nearly all of the variance is that of the seeds: four degrees of freedom, two a candidate.
    assert unstable.freedom == pytest.approx(np.full(2, 4.0), rel=0.1)


def test_level_repeats_leave_the_seeds_their_usual_share() -> None:
    """Satterthwaite's weights written out, with the mean of the candidates' ratios."""
    level = np.repeat(random_field([0.8], [1], 500)[0].right, 2, axis=0)
    level[1, np.flatnonzero(level[0])[:20]] = False
    level[1, np.flatnonzero(~level[0])[:20]] = True
    shaky = random_field([0.8] * 3, [2] * 3, 500, seed=1, seed_effect=0.3)
    field = [candidate("level", level), *shaky]
    evidence = Evidence.of(field)
    changes = [one.right[1].astype(float) - one.right[0] for one in field]
    lucks = [one.var(ddof=1) / 2 / 500 for one in changes]
    between = [max(one.mean() ** 2 / 2, 1 / (12 * 500**2)) for one in changes]
    usual = np.mean(np.divide(between, lucks))
    seeds = evidence.seeds
    assert seeds is not None and seeds.excess[0] < usual / 2
    of_seeds = usual * lucks[0] / 2
    of_pictures = level.mean(axis=0).var(ddof=1) / 500 - lucks[0] / 2
    expected = seeds.freedom[0] * ((of_pictures + of_seeds) / of_seeds) ** 2
    assert evidence.freedom[0] == pytest.approx(expected, rel=1e-3)


def in_groups(shares: list[float], groups: int, size: int, seed: int) -> Evidence:
    """Candidates that have whole groups right or wrong."""
    generator = np.random.default_rng(seed)
    right = np.repeat(generator.random((len(shares), groups)), size, axis=1)
    field = [candidate(f"c{i}", row < share) for i, (row, share) in enumerate(zip(right, shares))]
    turned = generator.permutation(groups * size)
    numbers = np.repeat(generator.permutation(groups) + 7, size)
    field = [candidate(one.name, one.right[:, turned]) for one in field]
    return Evidence.of(field, numbers[turned])


def test_groups_that_answer_as_one_count_once_each() -> None:
    """The exact reduction: ten times the same picture is one picture."""
    tenfold = in_groups([0.8, 0.6], 60, 10, seed=0)
    generator = np.random.default_rng(0)
    single = generator.random((2, 60)) < np.array([[0.8], [0.6]])
    once = Evidence.of([candidate("a", single[0]), candidate("b", single[1])])
    assert tenfold.figure == pytest.approx(once.figure)
    assert tenfold.shared == pytest.approx(once.shared, rel=1e-4)
    assert tenfold.groups.count == tenfold.groups.effective == 60
    assert (tenfold.freedom == 59).all()


def test_variances_in_groups_of_unequal_sizes_are_those_of_the_figures() -> None:
    figures, variances = [], []
    for seed in range(400):
        generator = np.random.default_rng(seed)
        sizes = generator.integers(1, 12, 80)
        numbers = np.repeat(np.arange(80), sizes)
        skill = generator.standard_normal(80)[numbers] + generator.standard_normal(len(numbers))
        evidence = Evidence.of([candidate("a", skill > -1)], numbers)
        figures.append(evidence.figure[0])
        variances.append(evidence.variance[0])
    assert np.mean(variances) == pytest.approx(np.var(figures), rel=0.15)


def test_pictures_that_stand_alone_are_no_groups() -> None:
    field = random_field([0.7, 0.8], [2, 1])
    alone = Evidence.of(field, np.random.default_rng(0).permutation(400))
    assert alone.groups.order is None
    assert alone.shared == pytest.approx(Evidence.of(field).shared)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="no candidates"):
        Evidence.of([])
    with pytest.raises(ValueError, match="on 3, 4 pictures"):
        Evidence.of([candidate("a", np.ones(3, bool)), candidate("b", np.ones(4, bool))])
    with pytest.raises(ValueError, match="All pictures are one group"):
        Evidence.of([candidate("a", np.ones(3, bool))], np.ones(3, np.int64))
    with pytest.raises(ValueError, match="2 groups of 3 pictures"):
        Evidence.of([candidate("a", np.ones(3, bool))], np.ones(2, np.int64))
    with pytest.raises(ValueError, match="at least two"):
        Evidence.of([candidate("a", np.ones(1, bool))])


def test_everything_right_leaves_no_variance_of_its_own() -> None:
    evidence = Evidence.of([candidate("a", np.ones(9, bool)), candidate("b", np.ones(9, bool))])
    assert (evidence.variance == 0).all() and (evidence.freedom == math.inf).all()
    assert (evidence.difference_variance > 0).all()


def test_the_freedom_of_a_variance_is_that_of_its_own_spread() -> None:
    """Of normal numbers it is their number; where five of a thousand matter, it is small."""
    numbers = np.random.default_rng(0).standard_normal((200, 300)).astype(np.float32)
    assert variance_freedom(numbers) == pytest.approx(300, rel=0.1)
    few = np.zeros((1, 1000), np.float32)
    few[0, :5] = numbers[0, :5]
    assert 1 <= variance_freedom(few) < 11
    assert math.isinf(variance_freedom(np.ones((1, 10), np.float32)))
