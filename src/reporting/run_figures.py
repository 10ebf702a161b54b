"""The pictures of one finished run, drawn into its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.metrics.classification import confusion_matrix
from src.metrics.probabilistic import reliability_bins
from src.records.class_maps import ClassMaps
from src.records.run import Predictions
from src.reporting.class_figure import class_figure
from src.reporting.class_table import class_table
from src.reporting.contact_sheets import batch_sheet, confident_mistakes, mistakes_sheet
from src.reporting.figures import confusion_figure, learning_curves, reliability_diagram
from src.reporting.map_sheet import map_sheet, right_and_wrong
from src.reporting.style import save
from src.storage.files import write_atomically

__all__ = ["draw_run_figures"]


def draw_run_figures(
    folder: Path,
    history: Mapping[str, Sequence[Sequence[float]]],
    predictions: Mapping[str, Predictions],
    read: Callable[[int], NDArray[np.uint8]],
    batch: tuple[NDArray[np.generic], NDArray[np.generic]] | None,
    class_maps: ClassMaps | None = None,
) -> Iterator[Path]:
    """Draw learning curves, an augmented batch, and for each part what its predictions show.

    What a model does not have, such as curves without epochs, is not drawn.

    Args:
        folder: where to; one PNG a picture, and a CSV table of every part's classes.
        history: (epoch, value) pairs by metric key.
        predictions: by part.
        read: sample id -> picture (C, H, W) uint8, for the most confident mistakes.
        batch: pictures (B, C, H, W) in [0, 255] as training saw them, and their targets: classes
            (B,) or, of mixed pictures, probabilities (B, K); None where it saw them as they are.
        class_maps: of a model that has them: drawn of the first part alone.

    Yields:
        The path of each file once it is written.
    """
    curves = {key: [(int(e), v) for e, v in points] for key, points in history.items()}

    def saved(figure: Figure, name: str) -> Path:
        path = folder / f"{name}.png"
        save(figure, path)
        return path

    if curves:
        yield saved(learning_curves(curves), "learning_curves")
    if not predictions:  # without a part to measure, nobody knows how it does
        return
    names = next(iter(predictions.values())).class_names
    if batch is not None:
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
        yield saved(class_figure(matrix, names), f"{part}_classes")
        yield saved(reliability_diagram(reliability_bins(probs, targets)), f"{part}_reliability")
        yield saved(sheet, f"{part}_mistakes")
        table = folder / f"{part}_classes.csv"
        write_atomically(table, class_table(matrix, names))
        yield table
    if class_maps is not None:
        part, predicted = next(iter(predictions.items()))
        examples = right_and_wrong(predicted.probs, predicted.targets)
        pictures = np.stack([read(i) for i in predicted.sample_ids[examples].tolist()])
        probs, targets = predicted.probs[examples], predicted.targets[examples]
        maps = class_maps.of(pictures, np.stack([probs.argmax(axis=1), targets], axis=1))
        figure = map_sheet(pictures, maps, probs, targets, names, class_maps.title)
        yield saved(figure, f"{part}_class_maps")
