from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from src.statistics.mcnemar import McNemar, mcnemar


def answers(both: int, ahead: int, behind: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    cells = [(1, 1)] * both + [(1, 0)] * ahead + [(0, 1)] * behind + [(0, 0)] * neither
    table = np.array(cells, bool)
    return table[:, 0], table[:, 1]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 20), st.integers(1, 20))
def test_is_the_binomial_test_of_the_pictures_in_dispute(
    ahead: int, behind: int, both: int, neither: int
) -> None:
    outcome = mcnemar(*answers(both, ahead, behind, neither))
    assert (outcome.first_alone, outcome.second_alone) == (ahead, behind)
    expected = binomtest(ahead, ahead + behind).pvalue if ahead + behind else 1.0
    assert outcome.p_value == pytest.approx(expected)


def test_says_what_it_is_about() -> None:
    said = McNemar(30, 10, 0.002).sentence("cnn", "vit")
    assert "cnn and vit differ" in said and "30 pictures" in said and "p = 0.002" in said
    assert "compares two trained networks" in said
    assert "cannot be told apart" in McNemar(3, 4, 1.0).sentence("cnn", "vit")


def test_refuses_answers_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="shapes"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
