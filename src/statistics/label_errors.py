"""Pictures that are probably labelled wrongly, found in stored predictions."""

from __future__ import annotations

from collections.abc import Mapping

from src.metrics.confident import label_suspects
from src.records.pictures import Suspect
from src.records.run import Predictions

__all__ = ["doubtful_labels"]

_LABEL = "label"


def doubtful_labels(predictions: Mapping[str, Predictions]) -> list[Suspect]:
    """Return the pictures whose labels the network confidently contradicts, by score.

    Args:
        predictions: by part, of pictures that the network was not trained on.
    """
    suspects = []
    for part, said in predictions.items():
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
