"""Further seeds of tied finalists: a group sequential comparison with several looks at the results.

The pictures stay the same, so that further seeds only reduce the uncertainty due to seeds. Each
look compares the stored predictions of the finalists' runs, and is stored in the study before the
next seeds are trained: a start that was killed resumes the same round, and a comparison in the
meantime shows the last look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..config.checks import ConfigError
from ..config.finished import ComparisonSettings
from ..config.sweep import SweepSettings
from ..config.tracking import TrackingSwitch
from ..data.sources.costs import CostTable
from ..records.comparison import Recommendation
from ..records.trials import Finalist
from ..search.study import SweepStudy

__all__ = [
    "Look",
    "extra_trainings",
    "judged",
    "keep_looks",
    "kept_looks",
    "left_out",
    "next_round",
    "verdict_on",
]

_LOOKS = "looks"


@dataclass(frozen=True)
class Look:
    """One look at the finalists, that is one comparison of them.

    Attributes:
        seeds: number of compared trainings by trial, failed ones included.
        tied: trials that are not significantly worse than the best.
        chance: probability that further seeds separate the first of them from another, as
            `decided_by_seeds`.
    """

    seeds: Mapping[int, int]
    tied: tuple[int, ...] = ()
    chance: float | None = None


def kept_looks(study: SweepStudy) -> list[Look]:
    """Return the looks at the finalists of a study; none if no further seeds were trained."""
    return [
        Look({int(t): n for t, n in kept["seeds"].items()}, tuple(kept["tied"]), kept["chance"])
        for kept in study.recall(_LOOKS) or []
    ]


def keep_looks(study: SweepStudy, looks: Sequence[Look]) -> None:
    """Store all looks so far in a study."""
    study.remember(_LOOKS, [asdict(one) for one in looks])


def left_out(looks: Sequence[Look]) -> set[int]:
    """Return the trials that an earlier look than the last found to be worse than the best."""
    return set() if len(looks) < 2 else looks[-2].seeds.keys() - set(looks[-2].tied)


def extra_trainings(looks: Sequence[Look]) -> int:
    """Return the number of trainings that finalists got after their first look."""
    first = {trial: count for look in reversed(looks) for trial, count in look.seeds.items()}
    return sum(looks[-1].seeds.values()) - sum(first.values()) if looks else 0


def next_round(
    looks: Sequence[Look], most: int, name_of: Callable[[int], str]
) -> tuple[dict[int, int], str]:
    """Plan the next round of further seeds.

    Args:
        looks: at least one.
        most: total number of trainings after the first look.
        name_of: returns the name of a trial's candidate.

    Returns:
        the number of seeds of each tied trial after the round, empty if there is to be none; a
        sentence without a full stop that describes the round, or says why there is none.
    """
    from ..statistics.looks import WORTH_SEEDS, seeds_until_next_look

    last = looks[-1]
    if len(last.tied) < 2:
        return {}, f"{name_of(last.tied[0])} is better than the others"
    tied = f"{', '.join(map(name_of, last.tied))} are statistically tied"
    if last.chance is not None and last.chance < WORTH_SEEDS:
        return {}, f"{tied}; separating them takes more pictures, not more seeds"
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
    """Compare finalists by the predictions of their runs; the arguments are those of `verdict_on`.

    Returns:
        `tied` and `chance` of the `Look`.

    Raises:
        ConfigError: their runs cannot be compared.
    """
    verdict, known = verdict_on(settings, finalists, look, costs)
    if not verdict.of_configurations:  # the spread over seeds is unknown: no finalist is left out
        return tuple(dict.fromkeys(trial for trial, _ in known.values())), None
    # Trainings by two versions of the program may count as two candidates of one trial.
    tied = dict.fromkeys(known[one.run_ids[0]][0] for one in verdict.tied)
    return tuple(tied), verdict.decided_by_seeds


def verdict_on(
    settings: SweepSettings,
    finalists: Sequence[Finalist],
    look: int = 1,
    costs: CostTable | None = None,
) -> tuple[Recommendation, dict[str, tuple[int, int]]]:
    """Compare finalists by the first metric of a sweep.

    Args:
        settings: of the sweep.
        finalists: to compare.
        look: number of the look, from 1.
        costs: of mistakes, if candidates are judged by them.

    Returns:
        the verdict; trial and seed of each run, by run id, in the order of the finalists.

    Raises:
        ConfigError: their runs cannot be compared.
    """
    # Imported here, since the import takes a moment that a sweep without finalists can save.
    from ..selection.comparison.find_runs import FoundRuns, existing_folders, measure_of
    from ..selection.comparison.judge import compared_runs

    output_dir = Path(settings.output_dir).absolute()
    folders = {
        (one.trial, seed): run
        for one in finalists
        for seed, path in one.run_dirs.items()
        for run in existing_folders([path], output_dir)
    }
    known = {run.run_id: training for training, run in folders.items()}
    out = {one.trial for one in finalists if one.left_out}
    found = FoundRuns(
        tuple(folders.values()),
        look=look,
        left_out=tuple(run_id for run_id, (trial, _) in known.items() if trial in out),
    )
    how = ComparisonSettings(output_dir=str(output_dir), tracking=TrackingSwitch(enabled=False))
    measure = measure_of(settings.metrics[0])
    verdict = compared_runs(found, how, measure, costs).verdict
    judged = {known[run_id][0] for one in verdict.standings for run_id in one.run_ids}
    if missing := {one.trial for one in finalists if one.mean is not None} - judged:
        raise ConfigError(
            f"finalists: those of trials {', '.join(map(str, sorted(missing)))} were measured on "
            "other pictures than the rest, or in another size, and cannot be compared with them."
        )
    return verdict, known
