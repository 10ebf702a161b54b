from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from src.statistics.evidence import Evidence
from src.statistics.power import pictures_needed, power_of_pair, smallest_detectable_gap
from tests.statistics.fields import candidate, random_field


def test_is_connors_formula() -> None:
    """Connor 1987, written out: 80 % power, 5 % two-sided, cells of 0.25 and 0.15."""
    gap, changed = 0.10, 0.40
    root = 1.959964 * changed**0.5 + 0.841621 * (changed - gap**2) ** 0.5
    assert pictures_needed(gap, changed) == int(np.ceil((root / gap) ** 2)) == 312


def test_so_many_pictures_do_find_it() -> None:
    """By simulation: the paired z test finds the difference in four cases of five."""
    gap, changed = 0.02, 0.06
    count = pictures_needed(gap, changed)
    assert count is not None
    cells = [(changed + gap) / 2, (changed - gap) / 2, 1 - changed]
    ahead, behind, _ = np.random.default_rng(0).multinomial(count, cells, 20_000).T
    found = np.abs(ahead - behind) / np.sqrt(ahead + behind) > 1.96
    assert found.mean() == pytest.approx(0.8, abs=0.02)


@given(st.floats(0.001, 0.05), st.floats(0.05, 0.5), st.integers(100, 100_000))
def test_gap_and_pictures_are_two_ways_to_ask(gap: float, changed: float, count: int) -> None:
    needed = pictures_needed(gap, changed)
    assert needed is not None
    found = smallest_detectable_gap(changed, needed, 0.0)
    assert found <= gap * 1.0001
    assert smallest_detectable_gap(changed, 4 * count, 0.0) < smallest_detectable_gap(
        changed, count, 0.0
    )


def test_seeds_can_drown_a_difference() -> None:
    assert pictures_needed(0.01, 0.1, seed_variance=0.01**2) is None
    some, none = pictures_needed(0.01, 0.1, seed_variance=0.002**2), pictures_needed(0.01, 0.1)
    assert some is not None and none is not None and some > none
    # With so many pictures, the errors of pictures and seeds together are what a test can bear.
    together = 0.1 / some + 0.002**2
    assert 0.01 / together**0.5 == pytest.approx(norm.ppf(0.975) + norm.ppf(0.8), rel=1e-3)


def test_of_two_candidates() -> None:
    field = random_field([0.85, 0.82], [1, 1], 500, seed=3)
    found = power_of_pair(Evidence.of(field), 0, 1)
    apart = field[0].right[0].astype(float) - field[1].right[0]
    assert found.gap == pytest.approx(abs(apart.mean()))
    assert found.pictures == pictures_needed(found.gap, float((apart**2).mean()))
    assert found.repeats == 1


def test_asks_for_repeats_where_pictures_do_not_help() -> None:
    field = random_field([0.80, 0.79], [3, 3], 5000, seed=1, seed_effect=0.3)
    found = power_of_pair(Evidence.of(field), 0, 1)
    assert found.repeats > 3 and found.pictures is not None


def test_level_candidates() -> None:
    same = candidate("a", np.arange(100) < 80), candidate("b", np.arange(100) < 80)
    found = power_of_pair(Evidence.of(same), 0, 1)
    assert found.gap == 0 and found.pictures is None and 0 < found.smallest_gap < 0.2


@pytest.mark.parametrize(("gap", "changed"), [(0.0, 0.1), (0.5, 0.1), (0.1, 1.5)])
def test_refuses(gap: float, changed: float) -> None:
    with pytest.raises(ValueError, match="gap is"):
        pictures_needed(gap, changed)
