"""Fields of candidates to test with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.selection.candidates import Candidate


def candidate(name: str, right: NDArray[np.bool_], **more: object) -> Candidate:
    right = np.atleast_2d(right)
    ids = tuple(f"{name}-{repeat}" for repeat in range(len(right)))
    return Candidate(name=name, run_ids=ids, right=right, **more)  # type: ignore[arg-type]


def random_field(
    shares: Sequence[float],
    repeats: Sequence[int],
    pictures: int = 400,
    *,
    seed: int = 0,
    seed_effect: float = 0.0,
) -> list[Candidate]:
    """Candidates with these accuracies, on pictures that are difficult for all or for none."""
    from scipy.stats import norm

    generator = np.random.default_rng(seed)
    difficulty = generator.standard_normal(pictures)
    found = []
    for index, (share, count) in enumerate(zip(shares, repeats)):
        own = generator.standard_normal((count, pictures))
        skill = norm.ppf(share) * np.sqrt(2) + seed_effect * generator.standard_normal((count, 1))
        found.append(candidate(f"c{index}", difficulty + own + skill > 0, log_loss=1 - share))
    return found
