"""A root finder without the import time of SciPy's."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["root"]


def root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return a number within `low` and `high` at which `function` changes its sign, by halving.

    To the last bit; SciPy's root finders need fewer calls of the function, and take longer to
    import than all of them.

    Args:
        function: continuous, of opposite signs (or 0) at `low` and `high`.
        low, high: finite, `low` below `high`.

    Raises:
        ValueError: the signs are equal.
    """
    first, last = function(low), function(high)
    if 0 in (first, last):
        return high if first else low
    if (first > 0) == (last > 0):
        raise ValueError(f"The function is {first:g} at {low:g} and {last:g} at {high:g}.")
    while low < (middle := low + (high - low) / 2) < high:
        if (function(middle) > 0) == (first > 0):
            low = middle
        else:
            high = middle
    return high
