from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from src.reporting import style
from src.reporting.run_figures import learning_curves
from src.reporting.style import plain_labels, save
from tests.reporting.conftest import ODD_LETTER, font_of_one_letter
from tests.reporting.figures import HISTORY

pytestmark = pytest.mark.filterwarnings("error")


def test_labels_are_short_and_free_of_formulas() -> None:
    assert plain_labels(["cat", "a\nb", "$x$"]) == ["cat", "a b", r"\$x\$"]
    assert plain_labels(["species of bird 12", "species of"], longest=12) == [
        "specie…rd 12",
        "species of",
    ]


def test_a_name_that_no_font_can_draw_becomes_its_number() -> None:
    assert plain_labels(["cat", "\U00013000", ""]) == ["cat", "class 1", "class 2"]
    assert plain_labels(["cat", "a\U00013000"], instead="") == ["cat", r"a\U00013000"]


def test_numbers_in_place_of_names_are_remarked_upon_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        plain_labels(["cat", *(f"a\U00013000{i}" for i in range(22)), ""])
    (remark,) = caplog.messages
    assert remark.startswith("figures call a\U000130000 class 1, a\U000130001 class 2,")
    assert "class 20 and 2 others likewise: no font on this machine has" in remark


@pytest.mark.parametrize("name", ["قميص", "юбка", "Παντελόνι", "חולצה"])
def test_the_own_font_draws_its_alphabets_whichever_face_is_listed_first(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slanted face has no Arabic."""
    fonts = font_manager.fontManager
    for key in ("oblique", "normal"):
        listed = sorted(fonts.ttflist, key=lambda font: font.style != key)
        monkeypatch.setattr(fonts, "ttflist", listed)
        assert {*map(ord, name)} <= style._fonts.__wrapped__()["DejaVu Sans"]


def test_a_font_is_used_that_was_installed_after_matplotlib_listed_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = font_of_one_letter(tmp_path / "one.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(fonts := font_manager.fontManager, "ttflist", [*fonts.ttflist])
    monkeypatch.setattr(style, "_further", style._further.__wrapped__)
    assert plain_labels([ODD_LETTER]) == ["class 0"]
    installed = [str(file), str(tmp_path / "broken.ttf")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    assert plain_labels([ODD_LETTER]) == [ODD_LETTER]


def test_an_installed_font_that_has_the_letters_draws_them(odd_letter: str, tmp_path: Path) -> None:
    assert plain_labels([f"{odd_letter} cat"]) == [f"{odd_letter} cat"]
    figure = style.new_figure(2, 1, arranged=False)
    figure.text(0.1, 0.5, odd_letter)
    save(figure, tmp_path / "a.png")  # a letter that is not drawn is warned about
    assert np.asarray(Image.open(tmp_path / "a.png").convert("L")).min() < 100


def test_a_saved_figure_is_a_sharp_png_of_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(learning_curves(HISTORY), tmp_path / "new" / name)
    content = (tmp_path / "new" / "a.png").read_bytes()
    assert content == (tmp_path / "new" / "b.png").read_bytes()
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    assert image.size == (1497, 547)
    assert image.getpixel((0, 0)) == (255, 255, 255, 255)


def test_figures_are_drawn_on_several_threads_at_once(tmp_path: Path) -> None:
    def draw(index: int) -> bytes:
        save(learning_curves(HISTORY), tmp_path / f"{index}.png")
        return (tmp_path / f"{index}.png").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(8)))) == 1


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, src.reporting.run_figures, src.reporting.sweep_figures;"
        "sys.exit(not {'matplotlib.pyplot', 'torch', 'sklearn'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
