"""Pareto fronts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["pareto_front"]


def pareto_front(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """Return the indices of the points that no other point dominates, in their order.

    A point dominates another if it is at least as good in every value and better in one, so equal
    points are all in the front or all outside. Points with a NaN are left out.

    Args:
        points: N points of M numbers.
        directions: M times "maximize" or "minimize".

    Raises:
        ValueError: a point of another length.
        KeyError: another direction.
    """
    signs = [{"maximize": -1.0, "minimize": 1.0}[direction] for direction in directions]
    costs = np.array(points, dtype=np.float64).reshape(len(points), len(signs)) * signs
    known = ~np.isnan(costs).any(axis=1)
    front = []
    for index in np.flatnonzero(known):
        no_worse = (costs[known] <= costs[index]).all(axis=1)
        better = (costs[known] < costs[index]).any(axis=1)
        if not (no_worse & better).any():
            front.append(int(index))
    return front
