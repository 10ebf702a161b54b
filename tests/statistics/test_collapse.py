from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from src.statistics.collapse import collapsed_trainings, exact_interval
from tests.statistics.fields import candidate, random_field


def answers(shares: list[float], seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.random((len(shares), 600)) < np.array(shares)[:, None]


def test_finds_the_trainings_that_learnt_little() -> None:
    field = [
        candidate("a", answers([0.88, 0.87, 0.1, 0.89])),
        candidate("b", answers([0.86, 0.88, 0.87], 1)),
        candidate("c", answers([0.1], 2)),
    ]
    first, second, alone = collapsed_trainings(field, 0.1)
    assert first.tolist() == [False, False, True, False]
    assert not second.any() and not alone.any()


def test_finds_the_training_that_is_far_off_from_others_that_agree() -> None:
    """It has learnt half of what they have."""
    field = [
        candidate("a", answers([0.88, 0.87, 0.5, 0.89])),
        candidate("b", answers([0.86, 0.88, 0.87], 1)),
    ]
    first, second = collapsed_trainings(field, 0.1)
    assert first.tolist() == [False, False, True, False] and not second.any()


def test_a_whole_field_that_is_unstable_has_not_collapsed() -> None:
    field = [candidate(str(i), answers([0.9, 0.6, 0.5, 0.55], i)) for i in range(3)]
    field += [candidate("wild", answers([0.95, 0.65, 0.7, 0.6], 9))]
    field += [candidate(f"steady {i}", answers([0.9, 0.9, 0.9], i)) for i in range(6)]
    assert not any(one.any() for one in collapsed_trainings(field, 0.1))


@pytest.mark.parametrize("effect", [0.0, 0.2])
def test_trainings_that_vary_as_trainings_do_have_not_collapsed(effect: float) -> None:
    for seed in range(30):
        field = random_field([0.9] * 6, [3] * 6, 400, seed=seed, seed_effect=effect)
        assert not any(one.any() for one in collapsed_trainings(field, 0.1))


def test_hardly_better_than_a_constant_answer_is_no_collapse_by_chance() -> None:
    field = [candidate(str(i), answers([0.52, 0.5, 0.49], i)) for i in range(4)]
    assert not any(one.any() for one in collapsed_trainings(field, 0.5))


@pytest.mark.parametrize(("events", "trials"), [(0, 12), (1, 15), (7, 15), (9, 9)])
def test_the_share_has_the_exact_interval(events: int, trials: int) -> None:
    expected = binomtest(events, trials).proportion_ci(method="exact")
    found = exact_interval(events, trials)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
