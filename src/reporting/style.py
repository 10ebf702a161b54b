"""Colours, fonts, sizes and files of all figures.

Figures are made with matplotlib's objects alone: its pyplot interface and its settings are global,
so threads that draw with them interfere.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal
from unicodedata import east_asian_width

from matplotlib import font_manager, get_data_path
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from ..machine.text import counted, visible
from ..storage.files import replacing

__all__ = [
    "ACCENT",
    "ACCENT_SOFT",
    "BACKDROP",
    "GRID",
    "HEAT",
    "INK",
    "MUTED",
    "WARNING",
    "WARNING_SOFT",
    "axes_at",
    "families_of",
    "in_percent",
    "inches",
    "list_rows",
    "new_figure",
    "plain_labels",
    "save",
    "save_as",
    "tidy",
]

INK = "#1f2933"  # text and outlines
MUTED = "#616e7c"  # references
GRID = "#e4e7eb"
BACKDROP = "#f3f5f7"  # areas without data
ACCENT = "#2563eb"  # the subject of a figure
ACCENT_SOFT = "#9db9f7"
WARNING = "#d6453d"  # errors
WARNING_SOFT = "#f0b4af"
HEAT = "inferno"  # colour map of heat maps over a picture

_log = logging.getLogger(__name__)

_DOTS_PER_INCH = 144
_MOST_REMARKED = 20  # names in a remark
_UNESCAPED = re.compile(r"(?<!\\)\$")  # two of them would start and end a formula
# The first one comes with matplotlib and draws Latin, Greek, Cyrillic, Arabic and Hebrew. The
# others, where a system has them, draw the scripts of most of the world's other folder names.
_FAMILIES = (
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC"),
    *("Hiragino Sans GB", "Microsoft YaHei", "Arial Unicode MS"),
)

# A family without bold letters draws its usual ones, which needs no word to the user.
logging.getLogger(font_manager.__name__).setLevel(logging.ERROR)


def new_figure(width: float, height: float, *, arranged: bool = True) -> Figure:
    """Return an empty white figure of this size in inches, drawn by Agg on any thread.

    If `arranged`, matplotlib makes room for labels; else axes stay at their places.
    """
    # As it is saved: a hinted font has other widths at another resolution.
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    if arranged:
        figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    return figure


def save(figure: Figure, path: Path | str) -> None:
    """Write the figure as PNG at 144 dots an inch, atomically; the same figure, the same bytes.

    Raises:
        OSError: the file cannot be written; one that was there before stays.
    """
    texts = figure.findobj(Text)
    families = families_of(*(text.get_text() for text in texts))
    for text in texts:
        text.set_fontfamily(families)
    if (engine := figure.get_layout_engine()) is not None:
        # Where it is left to `savefig`, the whole figure is drawn twice.
        engine.execute(figure)
        figure.set_layout_engine(None)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})


def families_of(*texts: str) -> list[str]:
    """Return the font families for texts: those preferred, then others for letters they lack."""
    letters = {ord(letter) for text in texts for letter in text} - _glyphs()
    further = {_further()[letter] for letter in letters if letter in _further()}
    return [*_fonts(), *sorted(further)]


def save_as(folder: Path, figure: Figure, name: str) -> Path:
    """Save the figure as NAME.png in a folder, and return its path; raises as `save`."""
    path = folder / f"{name}.png"
    save(figure, path)
    return path


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches from the figure's lower left corner."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes(
        (left / whole_width, bottom / whole_height, width / whole_width, height / whole_height)
    )


def inches(labels: Sequence[str], font_size: float) -> float:
    """Estimate the length of the longest label in inches, at a font size in points."""
    # A letter is some 0.6 times as wide as high, and twice that in East Asian scripts.
    ems = [sum(1.1 if east_asian_width(c) in "WF" else 0.6 for c in label) for label in labels]
    return max(ems, default=0) * font_size / 72


def tidy(
    axes: Axes,
    *,
    title: str = "",
    x: str = "",
    y: str = "",
    grid: Literal["", "x", "y", "both"] = "",
) -> None:
    """Give axes the common look: a title on the left, quiet lines, and no frame.

    Dollar signs of the texts stay what they are; those of `plain_labels` may stand in them. A
    letter that no installed font can draw becomes a square.
    """
    title, x, y = (
        "".join(c if _is_drawn(c) or c.isspace() else "□" for c in _UNESCAPED.sub(r"\\$", text))
        for text in (title, x, y)
    )
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, color=GRID, labelcolor=INK, length=3)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, lw=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)


def list_rows(axes: Axes, labels: Sequence[str], rows: int) -> None:
    """Let the y axis list labels from the top, with room for so many rows."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def in_percent(*axes: Axis) -> None:
    """Let the ticks of axes of shares in [0, 1] read "50 %"."""
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def plain_labels(names: Sequence[str], longest: int = 18, instead: str = "class") -> list[str]:
    """Return names as figures can show them, shortened in the middle to `longest` characters.

    One with a letter that no installed font can draw becomes "class 3", its index after `instead`,
    which is remarked upon once, or where that is empty the letter is escaped; dollar signs are, for
    they would start a formula.
    """
    labels, numbered = [], []
    for index, name in enumerate(names):
        label = " ".join(name.split())
        if not label or not all(map(_is_drawn, label)):
            escaped = "".join(c if _is_drawn(c) else ascii(c)[1:-1] for c in label)
            if instead and label:
                numbered.append(f"{visible(name)} {instead} {index}")
            label = f"{instead} {index}" if instead else escaped
        if len(label) > longest:
            tail = (longest - 1) // 2  # names are often told apart by their ends
            label = f"{label[: longest - 1 - tail]}…{label[-tail:]}"
        labels.append(label.replace("$", r"\$"))
    if numbered:
        _remark_on_numbers(tuple(numbered))
    return labels


@cache
def _remark_on_numbers(numbered: tuple[str, ...]) -> None:
    more = len(numbered) - _MOST_REMARKED
    others = f" and {counted(more, 'other')} likewise" if more > 0 else ""
    _log.warning(
        "figures call %s%s: no font on this machine has their letters. One that has them mends it "
        "once it is installed; Noto has one for every script.",
        ", ".join(numbered[:_MOST_REMARKED]),
        others,
    )


@cache
def _fonts() -> dict[str, frozenset[int]]:
    """Return the installed font families, in order of preference, with their code points."""
    files = _installed()
    return {
        family: frozenset(font_manager.get_font(files[family]).get_charmap())
        for family in _FAMILIES
        if family in files
    }


def _installed() -> dict[str, str]:
    """Return the file of each installed family's usual face; its slanted one has fewer letters."""
    faces = sorted(
        font_manager.fontManager.ttflist,
        key=lambda font: (
            font.style == "normal",
            font.stretch == "normal",
            font.weight == 400,
        ),
    )
    return {font.name: font.fname for font in faces}


@cache
def _glyphs() -> frozenset[int]:
    """Return the code points that the fonts in the order of preference can draw."""
    return frozenset().union(*_fonts().values())


@cache
def _further() -> dict[int, str]:
    """Return the family of the other installed fonts that draws a code point, the first by name.

    Reading them takes a second or more where there are hundreds: call it for missing letters only.
    """
    # matplotlib keeps the list of fonts that it once made.
    listed = {font.fname for font in font_manager.fontManager.ttflist}
    for file in set(font_manager.findSystemFonts()) - listed:
        with suppress(OSError, RuntimeError):  # such as of coloured letters, which it does not draw
            font_manager.fontManager.addfont(file)
    found: dict[int, str] = {}
    for family, file in sorted(_installed().items(), reverse=True):
        # Of matplotlib's own, those of formulas have other letters at these code points. That of
        # last resort, which macOS has as well, has boxes in their place.
        own = Path(file).is_relative_to(get_data_path())
        if not own and "LastResort" not in family and family not in _fonts():
            found |= dict.fromkeys(font_manager.get_font(file).get_charmap(), family)
    return found


def _is_drawn(letter: str) -> bool:
    return ord(letter) in _glyphs() or ord(letter) in _further()
