"""The figure of the ROC curves of classes or labels."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..machine.arrays import Float64Array
from ..metrics.roc import roc_curve, side
from ..records.run import Predictions
from .card_tables import auc_text
from .charts import panels
from .style import ACCENT, INK, MUTED, WARNING, in_percent, plain_labels, tidy

__all__ = ["roc_figure"]

_MOST_CURVES = 24


def roc_figure(predicted: Predictions, aucs: Float64Array) -> Figure | None:
    """Draw the ROC curve of each class against the rest, the lowest AUC first.

    A dot is where the answers are, which of more than two classes need not be on the curve, and a
    dotted line is chance. Of two classes the second one is drawn, whose curve is the other one's
    seen from the other corner. Of more than 24 those are drawn that come first; None where no class
    has an AUC.

    Args:
        predicted: with probabilities.
        aucs: (K,) AUC of each class, NaN where it has none.
    """
    probs, targets, preds = predicted.probs, predicted.targets, predicted.decided
    known = int(np.isfinite(aucs).sum())
    shown = np.argsort(aucs, kind="stable")[: min(known, _MOST_CURVES)].tolist()  # NaN is last
    if targets.ndim == 1 and probs.shape[1] == 2:
        shown = shown[1:]
    if not shown:
        return None
    labels = plain_labels(predicted.class_names)
    figure, grid = panels(len(shown), *((4.2, 4.2) if len(shown) == 1 else (2.4, 2.6)))
    for axes, k in zip(grid, shown, strict=True):
        scores, positive = side(probs, targets, k)
        axes.plot(*roc_curve(scores, positive), color=ACCENT, lw=1.4)
        axes.plot([0, 1], [0, 1], color=MUTED, lw=1.0, ls=":")
        answered = preds == k if preds.ndim == 1 else preds[:, k] > 0
        place = answered[~positive].mean(), answered[positive].mean()
        axes.plot(*place, "o", color=WARNING, ms=5, clip_on=False)
        text = auc_text(predicted, k).replace(" (", "\n(")
        axes.text(0.98, 0.04, f"AUC {text}", ha="right", fontsize=8, color=INK)
        tidy(axes, title=labels[k], x="false positive rate", y="recall", grid="both")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        in_percent(axes.xaxis, axes.yaxis)
    return figure
