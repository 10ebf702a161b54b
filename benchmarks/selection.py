"""Does the verdict keep its word? Leaderboards whose truth is known, and the time for a large one.

    python -m benchmarks selection
    python -m benchmarks.selection 100 "groups of ten, five candidates" ...

The second form takes the number of fields, and which settings (`looks` for looks again and again,
`measures` for those other than accuracy, `forecasts` for what pilots say); some 10 ms to 200 ms a
field. Each setting draws from seeds of its own. Nothing was chosen on those of the default; a
change is tried out on others, with `SEED=1` before the command.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from benchmarks.reference_intervals import cluster_bootstraps, wilson_for_all
from benchmarks.simulated_fields import (
    BASE,
    SETTINGS,
    UNSTEADY,
    Field,
    Setting,
    candidate_of,
    drawn,
    generator_of,
)
from benchmarks.simulated_measures import by_measures
from benchmarks.table import Row, print_table
from src.records.comparison import Recommendation
from src.statistics.candidates import Candidate, Scale
from src.statistics.evidence import Evidence
from src.statistics.intervals import difference_interval
from src.statistics.verdict import judge

__all__ = ["coverage", "forecasts", "measure"]

_FIELDS = 1000
_COVER, _LEFT_OUT = 93.6, 6.4
_BIASED_BY = 0.3
_LONGER, _LONGER_IN_GROUPS = 1.05, 1.1
_FOUND = (75.0, 85.0)
_SECONDS = 3.0
# A difference to be found, the pictures of a pilot, and how many there are beyond them.
_GAP, _PILOT, _FURTHER = 0.03, 600, 6000

_LOOKS = 10
_LOOKED_AT = {
    f"five candidates whose seeds move them by {points} points": replace(
        BASE, repeats=(12, 12), seed_effect=effect
    )
    for points, effect in ((0.6, 0.03), (1.8, 0.09))
}


@dataclass(frozen=True)
class Kept:
    """Whether one verdict kept its word.

    Attributes:
        winner, choice, line: whether the interval holds the truth of the first, of the champion by
            one standard error, and the share of all lines that do.
        difference: whether that of two candidates that were named in advance does, by the
            trainings that did not collapse, as all that is printed.
        collapses: whether the share of trainings that collapse, and the winner's mean with them,
            are within their intervals, where these are printed.
        promised: whether no caution says that intervals may not hold.
        best: whether the truly best is among the tied.
        apart: whether two equal candidates of a field of two are called different.
        contradicts: whether two of its statements exclude each other.
        measured, corrected: errors of the winner's figure before and after its correction, less
            the luck of the field: its expectation is 0, and it would hide what is looked for.
        length: of the winner's interval.
        references: of the same made in other ways, by name: how long, and whether it holds.
    """

    winner: bool
    choice: bool
    line: float
    difference: bool
    collapses: bool
    promised: bool
    best: bool
    apart: bool
    contradicts: bool
    measured: float
    corrected: float
    length: float
    references: Mapping[str, tuple[float, bool]]


def kept(
    draw: Callable[[np.random.Generator], Field], generator: np.random.Generator, seed: int
) -> Kept:
    """Draw a field, judge it with that seed, and compare with the truth."""
    field = draw(generator)
    verdict = judge(
        field.candidates,
        groups=field.groups,
        scale=Scale(constant=0.1),
        screening=field.screening,
        draws=1000,
        seed=seed,
    )
    truth = {one.name: float(true) for one, true in zip(field.candidates, field.truth)}
    # Of equally good ones any may count as the best: the last is as good as another.
    best = max(reversed(truth), key=truth.__getitem__)
    winner, choice = verdict.winner, verdict.choice
    of_all = dict(zip(truth, field.of_all.tolist()))
    sound = {run_id for one in verdict.standings for run_id in one.run_ids}
    seen = Evidence.of([_of_runs(one, sound) for one in field.candidates], field.groups)
    collapses = verdict.collapses
    equal = len(set(truth.values())) == 1
    return Kept(
        winner=truth[winner.name] in winner.interval,
        choice=truth[choice.name] in choice.interval,
        line=float(np.mean([truth[one.name] in one.interval for one in verdict.standings])),
        difference=truth["c0"] - truth["c1"] in difference_interval(seen, 0, 1)
        if "c0" in truth and "c1" in truth
        else True,
        collapses=collapses is None
        or collapses.winner is None
        or (of_all[winner.name] in collapses.winner and field.collapses in collapses.share),
        promised=not verdict.unsteady,
        best=best in {one.name for one in verdict.tied},
        apart=equal and len(truth) == 2 and len(verdict.tied) == 1,
        contradicts=_contradicts(verdict),
        measured=winner.figure - truth[winner.name] - field.luck,
        corrected=verdict.corrected - truth[winner.name] - field.luck,
        length=winner.interval.high - winner.interval.low,
        references=_references(field, verdict, truth[winner.name]),
    )


def _of_runs(one: Candidate, run_ids: set[str]) -> Candidate:
    return one.only(np.array([run_id in run_ids for run_id in one.run_ids]))


def _contradicts(verdict: Recommendation) -> bool:
    """Return whether statements of a verdict exclude each other."""
    alone = len(verdict.tied) == 1
    said = [
        verdict.corrected not in verdict.winner.interval,
        any(one.figure not in one.interval for one in verdict.standings),
        any(one.tied != (one.behind.high > 0 or one.rank == 1) for one in verdict.standings),
        verdict.choice.name not in {one.name for one in verdict.tied},
        verdict.difference is not None and alone != (0 not in verdict.difference),
    ]
    return any(said)


def _references(
    field: Field, verdict: Recommendation, truth: float
) -> dict[str, tuple[float, bool]]:
    """Return the length of other intervals for the first of so many, and whether they hold.

    Of single trainings: of repeats there is no plain one.
    """
    if verdict.of_configurations:
        return {}
    figure, count = verdict.winner.figure, len(field.candidates) + verdict.screened
    if field.groups is None:
        ends = {"Wilson's for all at once": wilson_for_all(figure, verdict.pictures, count)}
    else:
        right = np.concatenate([one.right for one in field.candidates])
        first = [one.name for one in field.candidates].index(verdict.winner.name)
        found = cluster_bootstraps(right, field.groups, np.random.default_rng(0))
        ends = {name: tuple(both[first].tolist()) for name, both in found.items()}
    return {name: (high - low, low <= truth <= high) for name, (low, high) in ends.items()}


def measure() -> list[Row]:
    """Many fields of all kinds, forecasts of what is needed, and one large field."""
    further = (rows_of(_FIELDS) for rows_of in _FURTHER_ROWS.values())
    return [*coverage(SETTINGS), *chain.from_iterable(further), *_large_field()]


def coverage(
    settings: Mapping[str, Callable[[np.random.Generator], Field]], fields: int = _FIELDS
) -> Iterator[Row]:
    """Yield how well the promises of a verdict are kept in each setting."""
    for name, draw in settings.items():
        found = [kept(draw, generator_of(name, seed), seed) for seed in range(fields)]
        what = f"{name}, {fields:,} fields"
        yield from _intervals(what, found, name in UNSTEADY)
        if "collapses" in name:
            share = _mean(found, "collapses")
            yield Row(
                f"the share that collapses and the mean with it are as printed; {what}",
                f"{share:.1f} %",
                f"at least {_COVER} %",
                share >= _COVER,
            )
        missed, apart = 100 - _mean(found, "best"), _mean(found, "apart")
        yield Row(
            f"the truly best left out; equal ones called different; {what}",
            f"{missed:.1f} %; {apart:.1f} %",
            f"at most {_LEFT_OUT} %",
            max(missed, apart) <= _LEFT_OUT,
        )
        before, after = (_mean(found, key) for key in ("measured", "corrected"))
        error = 100 * float(np.std([one.corrected for one in found])) / np.sqrt(fields)
        yield Row(
            f"what the winner is too good by, measured and corrected; {what}",
            f"{before:+.2f}, {after:+.2f} points (standard error {error:.2f})",
            f"within {_BIASED_BY} points, corrected" if "search" in name else "",
            abs(after) <= _BIASED_BY or "search" not in name,
        )
        yield from _lengths(what, found, "groups" in name)
        contradictions = sum(one.contradicts for one in found)
        yield Row(
            f"verdicts that contradict themselves; {what}",
            str(contradictions),
            "0",
            not contradictions,
        )


def _intervals(what: str, found: Sequence[Kept], unsteady: bool) -> Iterator[Row]:
    """Yield how often intervals hold, and how often they do not where no caution is printed."""
    keys = ("winner", "choice", "line", "difference")
    shares = [_mean(found, key) for key in keys]
    yield Row(
        f"95 % intervals that hold: winner, champion, lines, a difference; {what}",
        ", ".join(f"{share:.1f}" for share in shares) + " %",
        "" if unsteady else f"at least {_COVER} %",
        unsteady or min(shares) >= _COVER,
    )
    promised = [one for one in found if one.promised]
    if len(promised) == len(found):
        return
    missed = [100 * sum(1 - getattr(one, key) for one in promised) / len(found) for key in keys]
    yield Row(
        f"the same that are promised without a caution and do not hold, and with a caution; {what}",
        f"{', '.join(f'{share:.1f}' for share in missed)} %, "
        f"{100 - 100 * len(promised) / len(found):.0f} %",
        f"at most {_LEFT_OUT} %",
        max(missed) <= _LEFT_OUT,
    )


def _mean(found: Sequence[Kept], key: str) -> float:
    """Return the mean of a field, in percent or points."""
    return 100 * float(np.mean([getattr(one, key) for one in found]))


def _lengths(what: str, found: list[Kept], grouped: bool) -> Iterator[Row]:
    """Yield how long the winner's interval is beside each one that is made in another way.

    One that does not hold itself is no bar.
    """
    most = _LONGER_IN_GROUPS if grouped else _LONGER
    for name in dict.fromkeys(chain.from_iterable(one.references for one in found)):
        beside = [(one.length, *one.references[name]) for one in found if name in one.references]
        own, other, holds = (float(np.mean(column)) for column in zip(*beside, strict=True))
        kept = 100 * holds >= _COVER
        yield Row(
            f"length of the winner's interval, against {name}, which holds in "
            f"{100 * holds:.1f} % of {len(beside):,}; {what}",
            f"{100 * own:.1f} points, {own / other:.3f}x",
            f"at most {most:g}x" if kept else "",
            own <= most * other or not kept,
        )
    if repeated := [one for one in found if not one.references]:
        yield Row(
            f"length of the winner's interval where there are repeats, {len(repeated):,} of {what}",
            f"{_mean(repeated, 'length'):.1f} points, in the median "
            f"{100 * np.median([one.length for one in repeated]):.1f}",
            "",
            True,
        )


def ten_looks(fields: int = _FIELDS) -> Iterator[Row]:
    """Yield how often the promises hold at all looks, while the tied get a seed more for each."""
    for name, setting in _LOOKED_AT.items():
        found = np.array(
            [_looked(setting, generator_of(name, seed), seed) for seed in range(fields)]
        )
        what = f"at all of {_LOOKS} looks, {name}, {fields:,} fields"
        winner, lines, lost = (100 * found.mean(axis=0)).tolist()
        yield Row(
            f"95 % intervals that hold: winner, all lines together; {what}",
            f"{winner:.1f}, {lines:.1f} %",
            f"at least {_COVER} %",
            min(winner, lines) >= _COVER,
        )
        yield Row(
            f"the truly best left out; {what}",
            f"{lost:.1f} %",
            f"at most {_LEFT_OUT} %",
            lost <= _LEFT_OUT,
        )


def _looked(setting: Setting, generator: np.random.Generator, seed: int) -> tuple[bool, bool, bool]:
    """Return whether the winner's interval and all lines hold at all looks, and the best is lost.

    Intervals count from the second look on, as the first one's are promised by themselves.
    """
    field = drawn(setting, generator)
    truth = dict(zip([one.name for one in field.candidates], field.truth.tolist()))
    best = max(reversed(truth), key=truth.__getitem__)
    counts, tied = dict.fromkeys(truth, setting.repeats[1] - _LOOKS), set(truth)
    winner = lines = True
    for look in range(1, _LOOKS + 1):
        counts |= {name: counts[name] + 1 for name in tied}
        ids = {run for one in field.candidates for run in one.run_ids[: counts[one.name]]}
        shown = [_of_runs(one, ids) for one in field.candidates]
        verdict = judge(shown, look=look, left_out=truth.keys() - tied, draws=500, seed=seed)
        tied = {one.name for one in verdict.tied}
        if look > 1:
            held = [truth[one.name] in one.interval for one in verdict.standings]
            winner, lines = winner and held[0], lines and all(held)
        if len(tied) == 1:
            break
    return winner, lines, best not in tied


def forecasts(fields: int = _FIELDS) -> Iterator[Row]:
    """Yield how often a difference is found with the pictures that a pilot says it needs.

    The candidates of the pilot are those that are measured again, on other pictures, and the true
    figure of the first one is ahead by just the gap: a forecast is of these candidates, and single
    trainings whose skill varies would be ahead by something else.
    """
    for count in (2, 100):
        ends = (_PILOT + _FURTHER, _PILOT + _FURTHER)
        kind = replace(BASE, candidates=(count, count), ahead=_GAP, seed_effect=0.0, pictures=ends)
        found, beyond = [], 0
        for seed in range(fields):
            field = drawn(kind, generator_of("forecasts", seed)).candidates
            pilot = [_on(one, slice(_PILOT)) for one in field]
            power = judge(pilot, gap=_GAP, draws=1000, seed=seed).power
            needed = None if power is None else power.pictures
            if needed is None or needed > _FURTHER:
                beyond += 1
                continue
            again = [_on(one, slice(_PILOT, _PILOT + needed)) for one in field]
            verdict = judge(again, draws=1000, seed=seed)
            found.append("c1" not in {one.name for one in verdict.tied})
        share = 100 * float(np.mean(found))
        yield Row(
            f"found with the pictures that should do four times out of five, {count} candidates, "
            f"{fields:,} fields, {beyond} of them left out for asking for more than {_FURTHER:,}",
            f"{share:.1f} %",
            f"{_FOUND[0]:.0f} to {_FOUND[1]:.0f} %",
            _FOUND[0] <= share <= _FOUND[1],
        )


def _on(one: Candidate, pictures: slice) -> Candidate:
    return replace(one, right=one.right[:, pictures])


def _large_field() -> Iterator[Row]:
    """1,000 candidates x 10,000 pictures, most of them close to each other."""
    candidates = _close(1000, 10_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    judge(candidates)
    seconds = time.process_time() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    yield Row(
        "the verdict on 1,000 candidates x 10,000 pictures",
        f"{seconds:.1f} CPU seconds, {memory:.0f} MB",
        f"within {_SECONDS:.0f} s",
        seconds <= _SECONDS,
    )


def _close(count: int, pictures: int) -> list[Candidate]:
    generator = np.random.default_rng(0)
    difficulty: NDArray[np.float32] = generator.standard_normal(pictures, dtype=np.float32)
    found = []
    for index in range(count):
        answers = difficulty + generator.standard_normal((1 + index % 3, pictures), np.float32)
        answers += np.float32(2 + 0.1 * generator.random())
        found.append(candidate_of(f"c{index}", answers))
    return found


_FURTHER_ROWS = {"looks": ten_looks, "measures": by_measures, "forecasts": forecasts}


def _main(fields: int, names: Sequence[str]) -> None:
    chosen = {name: SETTINGS[name] for name in names if name not in _FURTHER_ROWS}
    further = [rows(fields) for name, rows in _FURTHER_ROWS.items() if name in names]
    if names:
        print_table(chain(coverage(chosen, fields), *further))
    else:
        rows = coverage(SETTINGS, fields)
        further = [rows_of(fields) for rows_of in _FURTHER_ROWS.values()]
        print_table(chain(rows, *further, _large_field()))


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
