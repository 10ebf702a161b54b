"""Fields of candidates to test with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.statistics.candidates import Candidate


def candidate(
    name: str,
    right: NDArray[np.bool_],
    *,
    losses: NDArray[np.float32] | None = None,
    cost: float | None = None,
    **more: object,
) -> Candidate:
    """With the log-loss of one who is sure of 90 %, unless `losses` (N,) or (R, N) are given."""
    right = np.atleast_2d(right)
    if losses is None:
        losses = np.where(right, -np.log(0.9), -np.log(0.1))
    ids = tuple(f"{name}-{repeat}" for repeat in range(len(right)))
    return Candidate(
        name=name,
        run_ids=ids,
        right=right,
        log_losses=np.broadcast_to(losses.mean(axis=-1, dtype=np.float64), len(right)),
        costs=None if cost is None else np.full(len(right), cost),
        **more,  # type: ignore[arg-type]
    )


def field_of_costs() -> list[Candidate]:
    """Three that are tied: of 200 pictures the second has one fewer right, the third six."""
    right = np.arange(200) < 150
    second, third = right.copy(), right.copy()
    second[[0, 1, 2, 180, 181]] = [False, False, False, True, True]
    third[[*range(10), *range(180, 184)]] = [False] * 10 + [True] * 4
    answers = {"first": right, "second": second, "third": third}
    return [candidate(name, answers[name], cost=4.0 / 2**i) for i, name in enumerate(answers)]


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
        answers = difficulty + own + skill
        losses = np.logaddexp(0, -2 * answers).astype(np.float32)
        found.append(candidate(f"c{index}", answers > 0, losses=losses))
    return found
