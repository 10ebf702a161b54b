from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from src.statistics.root_finding import root


@given(st.floats(-50, 50), st.floats(1e-3, 60), st.floats(1e-3, 60), st.sampled_from([-1, 1]))
def test_the_root_is_what_scipy_finds(
    truth: float, before: float, behind: float, sign: int
) -> None:
    def bent(x: float) -> float:
        return sign * (math.exp(x / 20) - math.exp(truth / 20))

    low, high = truth - before, truth + behind
    assert root(bent, low, high) == pytest.approx(brentq(bent, low, high), abs=1e-10)


def test_it_is_found_at_either_end_and_over_many_powers_of_ten() -> None:
    assert root(lambda x: x - 2, 2.0, 5.0) == 2 and root(lambda x: x - 5, 2.0, 5.0) == 5
    assert root(lambda x: 1 / x - 1e-7, 1e-4, 1e8) == pytest.approx(1e7, rel=1e-12)


def test_a_function_that_stays_on_one_side_has_none() -> None:
    with pytest.raises(ValueError, match="is 3 at 1 and 5 at 2"):
        root(lambda x: 2 * x + 1, 1.0, 2.0)
