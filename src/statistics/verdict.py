"""Everything that can be said about a field of candidates, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.statistics.candidates import Candidate
from src.statistics.evidence import Evidence
from src.statistics.intervals import Interval, accuracy_interval, difference_interval
from src.statistics.mcb import compare_with_best
from src.statistics.power import Enough, enough_to_tell
from src.statistics.resampling import resample
from src.statistics.winner import winners_accuracy

__all__ = ["Standing", "Verdict", "judge"]


@dataclass(frozen=True)
class Standing:
    """One line of the leaderboard.

    Attributes:
        rank: from 1, by accuracy; level ones by log-loss, then by name.
        name: of the candidate.
        run_ids: of its repeats.
        accuracy: mean over pictures and repeats, as measured.
        spread: standard deviation of the accuracies of its repeats, None for a single one.
        interval: of the true accuracy, 95 %; the winner's is corrected for having been picked.
        behind: of the true accuracy minus that of the best of the others, for all candidates at
            once; at most 0 for one that is certainly not the best.
        tied: whether it cannot be told from the best.
        log_loss, calibration_error, cost: as the candidate has them.
    """

    rank: int
    name: str
    run_ids: tuple[str, ...]
    accuracy: float
    spread: float | None
    interval: Interval
    behind: Interval
    tied: bool
    log_loss: float
    calibration_error: float
    cost: float | None


@dataclass(frozen=True)
class Verdict:
    """Which candidate to use, and how sure that is.

    Attributes:
        standings: of all candidates, the best first.
        winner: the first of them.
        winner_accuracy: corrected for having been picked; `winner.interval` goes with it.
        tied: the candidates that cannot be told from the best, the best first. The truly best is
            among them with 95 % certainty.
        cheapest: the one of them with the lowest cost, None where a cost is missing.
        choice: of those of them that are behind the winner by no more than the standard error of
            the difference the one with the lowest cost, or the winner where a cost is missing. With
            little data the tied set holds much that is probably worse, and this rule leaves it:
            the one standard error rule of Breiman, Friedman, Olshen & Stone, "Classification and
            Regression Trees", 1984, section 3.4.3, on paired answers.
        difference: of two candidates that are the whole field, and so were not picked for their
            figures, the true accuracy of the first minus that of the second; else None.
        enough: how far the data reach, for the best two; None for a single candidate.
        pictures: that the candidates were measured on.
        of_configurations: whether all of this is about configurations. If not, about the
            trained networks alone: nobody knows what other seeds would give.
        seed_share: of the variance of the winner's accuracy, what comes from seeds, in [0, 1];
            None where nobody knows of seeds.
        borrowed: names of the candidates with one repeat, whose spread is that of the others.
    """

    standings: tuple[Standing, ...]
    winner: Standing
    winner_accuracy: float
    tied: tuple[Standing, ...]
    cheapest: Standing | None
    choice: Standing
    difference: Interval | None
    enough: Enough | None
    pictures: int
    of_configurations: bool
    seed_share: float | None
    borrowed: tuple[str, ...]


def judge(candidates: Sequence[Candidate], *, draws: int = 1000, seed: int = 0) -> Verdict:
    """Rank the candidates and judge what the ranking is worth.

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
    enough = enough_to_tell(evidence, 0, 1) if len(ranked) > 1 else None
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
        enough=enough,
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
