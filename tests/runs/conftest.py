"""What all tests of runs share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def brief(brief_timings: None) -> None:
    """What is measured is looked at, and not how exactly."""


@pytest.fixture(autouse=True)
def with_own_cache(own_cache: None) -> None:
    """Nothing of another test's runs is found."""
