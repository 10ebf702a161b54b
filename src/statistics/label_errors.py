"""Pictures that are probably labelled wrongly, found in stored predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..metrics.confident import label_suspects
from ..records.pictures import LabelReview, Suspect
from ..records.run import Predictions

__all__ = ["doubtful_labels", "review_labels"]

_LABEL = "label"
# Of labels, 3.4 % are wrong on average in the test parts of ten well-known sets (Northcutt, Athalye
# & Mueller, "Pervasive label errors in test sets", NeurIPS Datasets and Benchmarks 2021). A model
# that contradicts six times as many is mostly mistaken itself.
_WEAK_BELOW = 0.8


def doubtful_labels(predictions: Mapping[str, Predictions]) -> list[Suspect]:
    """Return the pictures whose labels the network confidently contradicts, by score.

    Args:
        predictions: by part, of pictures that the network was not trained on; of label sets
            and pixels none is returned.
    """
    suspects = []
    for part, said in predictions.items():
        if said.kind in ("multi", "dense"):  # each label or pixel would be a question of its own
            continue
        names, found = said.class_names, label_suspects(said.probs, said.targets)
        for row, score, suggested in zip(found.indices, found.scores, found.suggested, strict=True):
            suspects.append(
                Suspect(
                    part=part,
                    index=int(said.sample_ids[row]),
                    path=None if said.paths is None else said.paths[row],
                    label=names[said.targets[row]],
                    kind=_LABEL,
                    score=float(score),
                    suggested=names[suggested],
                )
            )
    return sorted(suspects, key=lambda suspect: -suspect.score)


def review_labels(
    predictions: Mapping[str, Predictions], suspects: Sequence[Suspect]
) -> LabelReview:
    """Return likely wrong labels, with how far the model can be believed about them.

    Args:
        predictions: as of `doubtful_labels`, N pictures in all, N at least 1.
        suspects: of these, by score.
    """
    right = [said.probs.argmax(axis=1) == said.targets for said in predictions.values()]
    agreement = float(np.concatenate(right).mean())
    return LabelReview(
        tuple(suspects), sum(map(len, right)), agreement, weak=agreement < _WEAK_BELOW
    )
