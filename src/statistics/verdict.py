"""The verdict on a field of candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from src.records.comparison import Interval, Standing, Verdict
from src.statistics.candidates import Candidate
from src.statistics.evidence import Evidence
from src.statistics.intervals import accuracy_interval, difference_interval
from src.statistics.mcb import compare_with_best
from src.statistics.power import power_of_pair
from src.statistics.resampling import resample
from src.statistics.winner import winners_accuracy

__all__ = ["judge"]


def judge(candidates: Sequence[Candidate], *, draws: int = 1000, seed: int = 0) -> Verdict:
    """Rank the candidates and estimate the uncertainty of the ranking.

    The order in which they come does not matter. 1,000 candidates with 10,000 pictures each take
    some seconds and 300 MB.

    Args:
        candidates: measured on the same pictures (`candidates_of` checks that).
        draws: of the bootstrap.
        seed: of the draws.

    Raises:
        ValueError: no candidates, two of one name, or different numbers of pictures.
    """
    names: set[str] = set()
    for one in candidates:
        if one.name in names:
            raise ValueError(f"Two candidates are called {one.name}: each needs its own name.")
        names.add(one.name)
    ranked = sorted(candidates, key=lambda one: (-one.right.mean(), one.log_loss, one.name))
    evidence = Evidence.of(ranked)
    errors = resample(evidence, draws, seed)
    best = compare_with_best(evidence, errors)
    first = winners_accuracy(evidence, 0, errors)
    standings = tuple(
        Standing(
            rank=index + 1,
            name=one.name,
            run_ids=one.run_ids,
            accuracy=float(evidence.accuracy[index]),
            spread=_spread(one.right),
            interval=first.interval if index == 0 else accuracy_interval(evidence, index),
            behind=Interval(float(best.lowest[index]), float(best.highest[index])),
            tied=bool(best.tied[index]),
            log_loss=one.log_loss,
            calibration_error=one.calibration_error,
            cost=one.cost,
        )
        for index, one in enumerate(ranked)
    )
    tied = tuple(one for one in standings if one.tied)
    power = power_of_pair(evidence, 0, 1) if len(ranked) > 1 else None
    known = evidence.seeds is not None
    borrowed = tuple(one.name for one in ranked if known and len(one.right) == 1)
    errors_of_difference = np.sqrt(evidence.difference_variance[0])
    near = [
        one
        for one, error in zip(standings, errors_of_difference.tolist())
        if one.tied and standings[0].accuracy - one.accuracy <= error
    ]
    return Verdict(
        standings=standings,
        winner=standings[0],
        winner_accuracy=first.accuracy,
        tied=tied,
        cheapest=_cheapest(tied),
        choice=_cheapest([standings[0], *near[1:]]) or standings[0],
        difference=difference_interval(evidence, 0, 1) if len(ranked) == 2 else None,
        power=power,
        pictures=evidence.pictures,
        of_configurations=known,
        seed_share=_seed_share(evidence) if known else None,
        borrowed=borrowed,
    )


def _cheapest(tied: Sequence[Standing]) -> Standing | None:
    costs = [one.cost for one in tied if one.cost is not None]
    if len(costs) < len(tied):
        return None
    return tied[int(np.argmin(costs))]


def _seed_share(evidence: Evidence) -> float:
    variance = float(evidence.variance[0])
    return float(evidence.seed_variance[0]) / variance if variance > 0 else 0.0


def _spread(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean(axis=1).std(ddof=1)) if len(right) > 1 else None
