from __future__ import annotations

from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from src.metrics.share_intervals import score_interval, wilson_interval


@given(st.data(), st.integers(1, 100_000), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_agrees_with_scipy(data: st.DataObject, trials: int, confidence: float) -> None:
    successes = data.draw(st.integers(0, trials))
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    found = score_interval(successes / trials, trials, quantile)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)
    if confidence == 0.95:
        assert found == wilson_interval(successes, trials)


@given(st.floats(0, 1), st.floats(1, 1e6), st.floats(0.1, 5))
def test_stays_within_shares(share: float, trials: float, quantile: float) -> None:
    low, high = score_interval(share, trials, quantile)
    assert 0 <= low <= share <= high <= 1


def test_ends_are_exact() -> None:
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_refuses(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {trials} trials"):
        wilson_interval(successes, trials)
