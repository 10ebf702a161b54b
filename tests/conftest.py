"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

import src  # noqa: F401  (says how OpenMP's threads wait, before a test imports torch)

# A busy machine is slow, not wrong.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="where tests/tracking/test_ui_browser.py leaves the README's pictures of MLflow",
    )
