from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from src.reporting import comparison_figures, style


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


ODD_LETTER = "\ua000"  # which neither matplotlib's fonts nor most systems have


def font_of_one_letter(file: Path, letter: str = ODD_LETTER, family: str = "Of One Letter") -> Path:
    """Write a font of a letter that is as wide as high, and return its file."""
    made = FontBuilder(1000)
    pen = TTGlyphPen(None)
    for move, place in ((pen.moveTo, (0, 0)), (pen.lineTo, (900, 0)), (pen.lineTo, (900, 900))):
        move(place)
    pen.closePath()
    made.setupGlyphOrder([".notdef", "one"])
    made.setupCharacterMap({ord(letter): "one"})
    made.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "one": pen.glyph()})
    made.setupHorizontalMetrics({".notdef": (1000, 0), "one": (1000, 0)})
    made.setupHorizontalHeader(ascent=900, descent=-100)
    made.setupNameTable({"familyName": family, "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(file)
    return file


@pytest.fixture
def odd_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The odd letter, and an installed font of it."""
    monkeypatch.setattr(fonts := font_manager.fontManager, "ttflist", [*fonts.ttflist])
    fonts.addfont(font_of_one_letter(tmp_path / "one.ttf"))
    monkeypatch.setattr("src.reporting.style._further", style._further.__wrapped__)
    return ODD_LETTER
