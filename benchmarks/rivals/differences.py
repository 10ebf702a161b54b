"""How far one contestant is ahead of another, over pictures and seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Difference", "compare"]


@dataclass(frozen=True)
class Difference:
    """Accuracy of one contestant less that of another.

    Attributes:
        mean: over seeds, in [-1, 1].
        standard_error: of the mean, over pictures and, from two seeds on, over seeds.
    """

    mean: float
    standard_error: float

    @property
    def is_behind(self) -> bool:
        """Whether the first one is behind by more than a standard error."""
        return self.mean < -self.standard_error


def compare(
    first: Sequence[Mapping[str, bool]], second: Sequence[Mapping[str, bool]]
) -> Difference:
    """Return how far the first one is ahead, paired by seed and picture.

    A picture may be in the test parts of several seeds, where its answers are alike, and the
    answers of one seed come from one training. The variance is therefore clustered by both: the sum
    of the variances clustered by picture and by seed less that of single answers (Cameron, Gelbach
    and Miller, "Robust inference with multiway clustering", 2011), each with G / (G - 1) for its
    number G of clusters, and at least that by picture alone.

    Args:
        first, second: for each seed, whether each picture of the test part is labelled right.

    Raises:
        ValueError: the two were not asked about the same pictures, there are none, or only one.
    """
    if not first or [one.keys() for one in first] != [one.keys() for one in second]:
        raise ValueError("both must have labelled the same pictures in the same seeds")
    per_seed = [
        {picture: ours[picture] - theirs[picture] for picture in ours}
        for ours, theirs in zip(first, second, strict=True)
    ]
    mean = sum(sum(found.values()) / len(found) for found in per_seed) / len(per_seed)
    by_picture: dict[str, float] = defaultdict(float)
    by_seed = [0.0] * len(per_seed)
    single = []
    for seed, found in enumerate(per_seed):
        for picture, value in found.items():
            share = (value - mean) / (len(found) * len(per_seed))
            by_picture[picture] += share
            by_seed[seed] += share
            single.append(share)
    pictures = _clustered(list(by_picture.values()))
    both = pictures
    if len(per_seed) > 1:
        both = max(pictures, pictures + _clustered(by_seed) - _clustered(single))
    return Difference(mean, math.sqrt(both))


def _clustered(sums: Sequence[float]) -> float:
    if len(sums) < 2:
        raise ValueError("one picture alone has no standard error")
    return len(sums) / (len(sums) - 1) * sum(one * one for one in sums)
