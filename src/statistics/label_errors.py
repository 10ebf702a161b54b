"""Labels that predictions contradict, found by confident learning: the first to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics.validation import checked
from ..records.pictures import LabelReview, Suspect
from ..records.run import Predictions

__all__ = ["LabelSuspects", "doubtful_labels", "label_suspects", "review_labels"]

_LABEL = "label"


def doubtful_labels(predictions: Mapping[str, Predictions]) -> list[Suspect]:
    """Return the pictures whose labels the network confidently contradicts, by score.

    Args:
        predictions: by part, of pictures that the network was not trained on; of label sets
            and pixels none is returned.
    """
    suspects = []
    for part, predicted in predictions.items():
        # Of several labels or of pixels each one would be a question of its own.
        if predicted.kind_of_targets.multi_hot:
            continue
        names, found = predicted.class_names, label_suspects(predicted.probs, predicted.targets)
        for row, score, suggested in zip(found.indices, found.scores, found.suggested, strict=True):
            suspects.append(
                Suspect(
                    part=part,
                    index=int(predicted.sample_ids[row]),
                    path=None if predicted.paths is None else predicted.paths[row],
                    label=names[predicted.targets[row]],
                    kind=_LABEL,
                    score=float(score),
                    suggested=names[suggested],
                )
            )
    return sorted(suspects, key=lambda suspect: -suspect.score)


def review_labels(
    predictions: Mapping[str, Predictions], suspects: Sequence[Suspect]
) -> LabelReview:
    """Return the contradicted labels, with how far the model can be believed about them.

    How many of them are wrong does not follow from predictions: a model calibrated on the labels
    expects as many contradictions as it finds, be they wrong labels or its own mistakes.

    Args:
        predictions: as of `doubtful_labels`, N pictures in all, N at least 1.
        suspects: of these, by score.
    """
    right = [one.probs.argmax(axis=1) == one.targets for one in predictions.values()]
    agreement = float(np.concatenate(right).mean())
    return LabelReview(tuple(suspects), sum(map(len, right)), agreement)


class LabelSuspects(NamedTuple):
    """M samples whose label the model confidently contradicts, the most certain first.

    Attributes:
        indices: (M,) int64, positions within the samples.
        scores: (M,) float64 in (0, 1], descending: the probability of the suggested class minus
            that of the label.
        suggested: (M,) int64, the class that the model gives each instead.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float64]
    suggested: NDArray[np.int64]


def label_suspects(probs: ArrayLike, targets: ArrayLike) -> LabelSuspects:
    """Return samples off the diagonal of the confident joint, ranked by their margin.

    Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
    JAIR 70 (2021), section 3.1: a sample is confidently of class k if its probability of k reaches
    the mean probability of k among the samples labelled k; of several such classes the most
    probable one counts. The mean corrects for classes of which a model is over- or underconfident.
    Samples whose label still is the more probable one are not suspects.

    A class without labelled samples has no such mean, and is never suggested.

    Args:
        probs: (N, K), of samples that the model was not trained on.
        targets: (N,) the labels. Raises as `src.metrics.validation.checked`.
    """
    probs, targets = checked(probs, targets)
    probs = probs.astype(np.float64, copy=False)
    own = np.take_along_axis(probs, targets[:, None], axis=1)[:, 0]
    counts = np.bincount(targets, minlength=probs.shape[1])
    sums = np.bincount(targets, weights=own, minlength=probs.shape[1])
    thresholds = np.full(probs.shape[1], np.inf)
    np.divide(sums, counts, out=thresholds, where=counts > 0)
    confident = np.where(probs >= thresholds, probs, -np.inf)
    suggested = confident.argmax(axis=1)
    margin = confident.max(axis=1) - own  # -inf where no class is confident
    found = np.flatnonzero((suggested != targets) & (margin > 0))
    ranked = found[np.argsort(-margin[found], kind="stable")]
    return LabelSuspects(ranked, margin[ranked], suggested[ranked])
