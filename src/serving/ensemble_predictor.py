"""The combined answers of several models as one predictor; bundles of ensembles alone have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ensembles.mixing import Method, combined_probabilities, mixed_pixels
from ..machine.arrays import Float32Array
from ..records.pictures import Pixels
from .predictor import Predictor, kind_in

__all__ = ["ensemble_predictor"]

# What `mixed_pixels` has of a picture at once: sum, a member's answer, and what is made of it.
_MAPS = 5


def ensemble_predictor(
    members: Sequence[Predictor],
    method: Method,
    weights: Sequence[float],
    metadata: Mapping[str, Any],
    *,
    batch_size: int,
) -> Predictor:
    """Return a predictor with the combined probabilities of several models.

    Each member gets the pictures in its own format; formats that members share are decoded once.
    Members that answer about pixels all have one format, and answer one after another.

    Args:
        members: M of them, for the same classes, of one format each.
        method, weights: see `src.ensembles.mixing`.
        metadata: of the ensemble.
        batch_size: pictures at once.
    """
    formats = list(dict.fromkeys(member.formats[0] for member in members))
    kind = kind_in(metadata)

    def mixed(probs: Float32Array) -> Float32Array:
        return combined_probabilities(method, probs, np.array(weights), sets=kind.sets)

    def taken(images: Sequence[Pixels]) -> list[tuple[Predictor, Pixels]]:
        return [(member, images[formats.index(member.formats[0])]) for member in members]

    def classify(*images: Pixels) -> Float32Array:
        answers = (member.probabilities(own) for member, own in taken(images))
        if kind.pixels:
            return mixed_pixels(method, answers, weights)
        return mixed(np.stack([*answers]))

    def describe(
        *images: Pixels,
    ) -> tuple[Float32Array, Float32Array]:
        found = [member.described(own) for member, own in taken(images)]
        probs = np.stack([probs for probs, _ in found])
        features = [_equally_long(features) for _, features in found if features is not None]
        return mixed(probs), np.concatenate(features, axis=1)

    combined = {**metadata, "formats": [wanted.plain() for wanted in formats]}
    described = any(member.gives_features for member in members)
    return Predictor(
        classify,
        combined,
        describe=describe if described else None,
        batch_size=batch_size,
        maps=_MAPS,
    )


def _equally_long(features: Float32Array) -> Float32Array:
    """Return features of unit length, so that no member of an ensemble outweighs another."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Float32Array = (features / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
