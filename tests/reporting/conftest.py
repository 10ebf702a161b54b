from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.figure import Figure

from src.reporting import comparison_figures


@pytest.fixture
def drawn_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Figure]]:
    """`drawn_by("confusion_figure")` returns the figures that a comparison draws by it later on."""

    def keep(name: str) -> list[Figure]:
        draw, drawn = getattr(comparison_figures, name), list[Figure]()

        def kept(*given: Any, **more: Any) -> Figure:
            drawn.append(draw(*given, **more))
            return drawn[-1]

        monkeypatch.setattr(comparison_figures, name, kept)
        return drawn

    return keep
