"""Further seeds of the finalists that cannot be told apart, and the looks at what they show.

The pictures stay the same, so that seeds settle only what they leave open themselves. Each look is
kept in the study before the next seeds are trained: a start that was killed goes on with the same
round, and a comparison meanwhile shows the last look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from ..config.sweep import SweepSettings
from ..data.sources.costs import CostTable
from ..records.trials import Finalist
from ..search.study import SweepStudy
from .judging import verdict_on

__all__ = [
    "Look",
    "extra_trainings",
    "judged",
    "keep_looks",
    "kept_looks",
    "left_out",
    "next_round",
]

_LOOKS = "looks"


@dataclass(frozen=True)
class Look:
    """One look at the finalists.

    Attributes:
        seeds: by trial, the number of trainings that were looked at, failed ones included.
        tied: trials that cannot be told from the best.
        chance: that further seeds tell the first of them from another, as `decided_by_seeds`.
    """

    seeds: Mapping[int, int]
    tied: tuple[int, ...] = ()
    chance: float | None = None


def kept_looks(study: SweepStudy) -> list[Look]:
    """Return the looks at the finalists of a study; none where none got further seeds."""
    return [
        Look({int(t): n for t, n in kept["seeds"].items()}, tuple(kept["tied"]), kept["chance"])
        for kept in study.recall(_LOOKS) or []
    ]


def keep_looks(study: SweepStudy, looks: Sequence[Look]) -> None:
    """Keep all looks so far."""
    study.remember(_LOOKS, [asdict(one) for one in looks])


def left_out(looks: Sequence[Look]) -> set[int]:
    """Return the trials that looks before the last told from the best."""
    return set() if len(looks) < 2 else looks[-2].seeds.keys() - set(looks[-2].tied)


def extra_trainings(looks: Sequence[Look]) -> int:
    """Return how many trainings finalists got after the look that they came in with."""
    first = {trial: count for look in reversed(looks) for trial, count in look.seeds.items()}
    return sum(looks[-1].seeds.values()) - sum(first.values()) if looks else 0


def next_round(
    looks: Sequence[Look], most: int, name_of: Callable[[int], str]
) -> tuple[dict[int, int], str]:
    """Return by trial how many seeds it is to have next, and a sentence that says so or why not.

    Args:
        looks: at least one.
        most: trainings beyond those of the first look, in all.
        name_of: returns the name of a trial's candidate.

    Returns:
        the tied trials, or none if no round is to follow; the sentence, without a full stop.
    """
    from ..statistics.looks import WORTH_SEEDS, seeds_until_next_look

    last = looks[-1]
    if len(last.tied) < 2:
        return {}, f"{name_of(last.tied[0])} is better than the others"
    tied = f"{', '.join(map(name_of, last.tied))} cannot be told apart"
    if last.chance is not None and last.chance < WORTH_SEEDS:
        return {}, f"{tied}, which takes more pictures and no further seeds"
    left = most - extra_trainings(looks)
    seeds = min(last.seeds[trial] for trial in last.tied)
    each = seeds_until_next_look(seeds, len(last.tied), left, first=len(looks) == 1)
    if not each:
        return {}, f"{tied}, and {max(0, left)} further trainings are too few for another look"
    return {t: last.seeds[t] + each for t in last.tied}, f"{tied}: {each} further seeds of each"


def judged(
    settings: SweepSettings,
    finalists: Sequence[Finalist],
    look: int,
    costs: CostTable | None = None,
) -> tuple[tuple[int, ...], float | None]:
    """Judge finalists by the predictions of their runs, at the look of this number.

    Returns:
        the trials that cannot be told from the best, and the chance of `Look`.

    Raises:
        ConfigError: their runs cannot be compared.
    """
    verdict, known = verdict_on(settings, finalists, look, costs)
    if not verdict.of_configurations:  # what seeds do is not known, so nobody is left out by it
        return tuple(dict.fromkeys(trial for trial, _ in known.values())), None
    # Trainings by two versions of the program may count as two candidates of one trial.
    tied = dict.fromkeys(known[one.run_ids[0]][0] for one in verdict.tied)
    return tuple(tied), verdict.decided_by_seeds
