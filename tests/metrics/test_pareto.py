from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.metrics.pareto import pareto_front

_POINTS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12)
_WAYS = st.tuples(*[st.sampled_from(["maximize", "minimize"])] * 3)


@given(_POINTS, _WAYS)
def test_the_front_is_what_nobody_dominates(
    points: list[tuple[int, int, int]], ways: tuple[str, str, str]
) -> None:
    def gains(point: tuple[int, ...]) -> list[int]:
        return [v if way == "maximize" else -v for v, way in zip(point, ways)]

    def dominated(point: tuple[int, ...]) -> bool:
        own = gains(point)
        return any(
            all(a >= b for a, b in zip(gains(other), own)) and gains(other) != own
            for other in points
        )

    assert pareto_front(points, ways) == [i for i, p in enumerate(points) if not dominated(p)]


def test_nan_takes_no_part() -> None:
    assert pareto_front([(math.nan, 0.0), (1.0, 1.0)], ["minimize", "minimize"]) == [1]
    assert pareto_front([], ["minimize"]) == []


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(KeyError, match="up"):
        pareto_front([(1.0,)], ["up"])
    with pytest.raises(ValueError, match="shape"):
        pareto_front([(1.0,)], ["minimize", "minimize"])
