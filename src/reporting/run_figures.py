"""The pictures of one finished run, drawn into its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.files import write_atomically
from src.metrics.classification import (
    confusion_matrix,
    per_class_f1,
    per_class_precision,
    per_class_recall,
)
from src.metrics.probabilistic import reliability_bins
from src.records import Predictions
from src.reporting.canvas import save
from src.reporting.figures import (
    confusion_figure,
    learning_curves,
    recall_bars,
    reliability_diagram,
)
from src.reporting.sheets import batch_sheet, confident_mistakes, mistakes_sheet

__all__ = ["draw_run_figures"]


def draw_run_figures(
    folder: Path,
    history: Mapping[str, Sequence[Sequence[float]]],
    predictions: Mapping[str, Predictions],
    read: Callable[[int], NDArray[np.uint8]],
    batch: tuple[NDArray[np.generic], NDArray[np.generic]],
) -> Iterator[Path]:
    """Draw learning curves, an augmented batch, and for each part what its predictions show.

    Args:
        folder: where to; one PNG a picture, and a CSV table of every part's classes.
        history: (epoch, value) pairs by metric key.
        predictions: by part.
        read: sample id -> picture (C, H, W) uint8, for the most confident mistakes.
        batch: pictures (B, C, H, W) in [0, 255] as training saw them, and their targets: classes
            (B,) or, of mixed pictures, probabilities (B, K).

    Yields:
        The path of each file once it is written.
    """
    curves = {key: [(int(e), v) for e, v in points] for key, points in history.items()}

    def saved(figure: Figure, name: str) -> Path:
        path = folder / f"{name}.png"
        save(figure, path)
        return path

    yield saved(learning_curves(curves), "learning_curves")
    names = next(iter(predictions.values())).class_names
    images, labels = np.asarray(batch[0]), np.asarray(batch[1])
    shown = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    yield saved(
        batch_sheet(shown, labels.argmax(axis=1) if labels.ndim == 2 else labels, names),
        "training_batch",
    )
    for part, predicted in predictions.items():
        probs, targets = predicted.probs, predicted.targets
        matrix = confusion_matrix(probs, targets)
        wrong = confident_mistakes(probs, targets)
        # One more than the mistakes, so that there is a shape even where there are none.
        chosen = [*predicted.sample_ids[wrong].tolist(), int(predicted.sample_ids[0])]
        pictures = np.stack([read(i) for i in chosen])[: len(wrong)]
        sheet = mistakes_sheet(pictures, probs[wrong], targets[wrong], names)
        yield saved(confusion_figure(matrix, names), f"{part}_confusion_matrix")
        yield saved(recall_bars(matrix, names), f"{part}_recall")
        yield saved(reliability_diagram(reliability_bins(probs, targets)), f"{part}_reliability")
        yield saved(sheet, f"{part}_mistakes")
        table = folder / f"{part}_classes.csv"
        write_atomically(table, _class_table(matrix, names))
        yield table


def _class_table(matrix: NDArray[np.int64], names: Sequence[str]) -> str:
    """Pictures, recall, precision and F1 of each class as CSV."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["class", "pictures", "recall", "precision", "f1"])
    scores = np.stack([per_class_recall(matrix), per_class_precision(matrix), per_class_f1(matrix)])
    for name, count, values in zip(names, matrix.sum(axis=1), scores.T, strict=True):
        rows.writerow([name, int(count), *(f"{v:.4f}" for v in values)])
    return text.getvalue()
