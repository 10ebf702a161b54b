"""Several models that answer as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.ensembles.mixing import Way, combined_probabilities
from src.serving.predictor import Predictor

__all__ = ["ensemble_predictor"]


def ensemble_predictor(
    members: Sequence[Predictor],
    way: Way,
    weights: Sequence[float],
    passport: Mapping[str, Any],
    *,
    batch_size: int,
) -> Predictor:
    """Return what labels pictures with the common probabilities of several models.

    Each member gets the pictures in its own format; formats that members share are decoded once.

    Args:
        members: M of them, for the same classes, of one format each.
        way, weights: see `src.ensembles.mixing`.
        passport: of the ensemble.
        batch_size: pictures at once.

    Raises:
        ValueError: there are no members, or not as many weights.
    """
    if not members or len(members) != len(weights):
        raise ValueError(f"There are {len(weights)} weights for {len(members)} members.")

    formats = list(dict.fromkeys(member.formats[0] for member in members))

    def classify(*images: NDArray[np.uint8]) -> NDArray[np.float32]:
        taken = [images[formats.index(member.formats[0])] for member in members]
        probs = [member.probabilities(own) for member, own in zip(members, taken, strict=True)]
        return combined_probabilities(way, np.stack(probs), np.array(weights))

    metadata = {**passport, "formats": [wanted.plain() for wanted in formats]}
    return Predictor(classify, metadata, batch_size=batch_size)
