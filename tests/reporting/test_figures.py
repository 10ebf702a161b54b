from __future__ import annotations

import io
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from src.metrics.classification import confusion_matrix
from src.metrics.probabilistic import calibration_error, reliability_bins
from src.reporting.canvas import new_figure, plain_labels, save
from src.reporting.figures import (
    confusion_figure,
    learning_curves,
    recall_bars,
    reliability_diagram,
)

pytestmark = pytest.mark.filterwarnings("error")

HISTORY = {
    "train/loss": [(0, 2.0), (1, 1.0), (2, 0.5)],
    "val/loss": [(0, 2.1), (1, 0.9), (2, 1.2)],
    "train/accuracy": [(0, 0.3), (1, 0.7), (2, 0.9)],
    "val/accuracy": [(0, 0.3), (1, 0.6), (2, 0.65)],
    "train/lr": [(0, 0.1), (1, 0.1), (2, 0.1)],
}


def texts(figure: Figure) -> list[str]:
    """What is written in the figure, and nothing that would be cut off at its edge."""
    figure.canvas.draw()
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    width, height = figure.bbox.size
    for text in shown:
        box = text.get_window_extent()
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside or text.get_text() not in _ticks_outside(figure), text
    return [text.get_text() for text in shown]


def _ticks_outside(figure: Figure) -> set[str]:
    return set()


def matrix_of(num_classes: int, count: int = 2000) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes))
    logits[np.arange(count), targets] += 3
    exp = np.exp(logits)
    return confusion_matrix(exp / exp.sum(axis=1, keepdims=True), targets)
