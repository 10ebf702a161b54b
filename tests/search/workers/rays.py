"""Ray, where it is there and can start."""

from __future__ import annotations

import sys
from typing import Any

import pytest

__all__ = ["ray_or_skip"]


def ray_or_skip() -> Any:
    """The package; without it, and in a path that it cannot start from, the test is skipped."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    if any(letter.isspace() for letter in sys.executable):
        pytest.skip("Ray cannot start Python from a path with a space in it")
    return ray
