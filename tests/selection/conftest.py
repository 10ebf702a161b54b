from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def brief(brief_timings: None) -> None:
    """What runs cost is of no account here."""
