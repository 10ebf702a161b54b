from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def with_own_cache(own_cache: None) -> None:
    """Nothing of another test's runs is found."""
