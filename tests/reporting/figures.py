"""What tests of figures share: what is written in one, and the history of a training."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ["HISTORY", "texts"]

HISTORY = {
    "train/loss": [(0, 2.0), (1, 1.0), (2, 0.5)],
    "val/loss": [(0, 2.1), (1, 0.9), (2, 1.2)],
    "train/accuracy": [(0, 0.3), (1, 0.7), (2, 0.9)],
    "val/accuracy": [(0, 0.3), (1, 0.6), (2, 0.65)],
    "train/lr": [(0, 0.1), (1, 0.1), (2, 0.1)],
}


def texts(figure: Figure) -> list[str]:
    """What is written in the figure, after a look whether any of it is cut off at the edges."""
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert 0 <= drawn.x0 < drawn.x1 <= width
    assert 0 <= drawn.y0 < drawn.y1 <= height
    return [t.get_text() for t in figure.findobj(Text) if t.get_visible() and t.get_text()]
