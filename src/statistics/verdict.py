"""The verdict on a field of candidates."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..machine.arrays import BoolArray, Float32Array, Int64Array
from ..records.comparison import Collapses, FoldTest, Interval, Power, Recommendation, Standing
from ..records.ties import MEAN_DIGITS, Place, place
from .candidates import Candidate, Scale
from .chances import Chances, chances_of
from .collapse import collapsed_trainings, exact_interval
from .evidence import Evidence, normal_quantile
from .intervals import (
    difference_interval,
    figure_interval,
    scaled_interval,
    simultaneous_quantile,
)
from .looks import decided_by_seeds, look_confidence
from .mcb import BestComparison, compare_with_best, control_quantile
from .power import power_of_tied
from .resampling import Errors, resample
from .screening import Screening
from .winner_bias import expected_figure

__all__ = ["cheapest", "judge"]

# Ratio of costs from which on the cheaper of two candidates is taken. Two heads on one frozen
# network differ by some percent of its latency, and two milliseconds in twenty are no reason to
# take the worse of two candidates.
_CHEAPER = 1.5
# Number of trainings up to which a candidate's repeats tell little about the effect of its seeds,
# and the probability that repeats of a larger effect lie as close together by chance. Chosen on
# fields like those of `benchmarks/selection.py`, of other draws.
_FEW_REPEATS, _CHANCE_OF_LARGER_EFFECT = 4, 0.2
# Of a difference of two means: 149 of 200 right answers are 0.005 behind 150.
_ROUNDING = 1e-6
_ACCURACY = Scale()


def judge(
    candidates: Sequence[Candidate],
    *,
    scale: Scale = _ACCURACY,
    groups: Int64Array | None = None,
    over_folds: tuple[str, FoldTest] | None = None,
    screening: Screening | None = None,
    look: int = 1,
    left_out: Collection[str] = (),
    gap: float = 0.01,
    band: float = 0.0,
    draws: int = 1000,
    seed: int = 0,
) -> Recommendation:
    """Rank the candidates and estimate the uncertainty of the ranking.

    The order in which they come does not matter; equal figures are in that of `src.records.ties`.
    1,000 candidates with 10,000 pictures each take some seconds and 300 MB.

    Args:
        candidates: measured on the same pictures (`candidates_of` checks that), with scores by the
            measure of the scale.
        scale: of the figures on these pictures; by its `constant` collapsed trainings are found.
        groups: (N,) group of each picture, by ascending sample id; None where each is its own.
        over_folds: of two candidates that were cross-validated on the same folds, the name of the
            first one of the test and its outcome: they are tied if the pictures or the folds
            cannot tell them apart.
        screening: what the candidates were chosen from on the same pictures; None for nothing.
        look: at candidates that get further seeds between looks, from 1; see `look_confidence`.
        left_out: names of those that an earlier look than the last one found to be worse than the
            best.
        gap: a difference that matters, above 0, in the units of the measure.
        band: a difference that counts as equal, at least 0, in the same units.
        draws: of the joint errors.
        seed: of the draws.

    Raises:
        ValueError: no candidates, two of one name, different numbers of pictures, or groups that do
            not fit.
    """
    _check_names(candidates)
    field = _Field.of(candidates, scale, groups, screening, look_confidence(look), left_out)
    ranked, evidence = field.ranked, field.evidence
    # As many beyond a quantile at every look.
    draws = round(draws * (1 - look_confidence(1)) / (1 - field.confidence))
    drawn = resample(field.wide, draws, seed)
    errors = Errors(drawn.drawn[: len(ranked)])
    difference = None
    if len(ranked) == 2:
        difference = _difference(field, over_folds)
        best = _of_two(difference)
    else:
        out = np.array([one.name in left_out for one in ranked])
        best = compare_with_best(evidence, errors, field.confidence, out)
    standings = _standings(field, drawn, best, chances_of(evidence, errors, band, seed))
    winner, tied = standings[0], tuple(one for one in standings if one.tied)
    near = _near(standings, evidence, band)
    power, by_seeds = _power(field, errors, best, gap)
    expected = scale.sign * expected_figure(field.with_screening(), 0)
    return Recommendation(
        measure=scale.measure,
        standings=standings,
        winner=winner,
        corrected=min(max(expected, winner.interval.low), winner.interval.high),
        tied=tied,
        cheapest=cheapest(tied),
        near=near,
        choice=cheapest(near) or winner,
        difference=difference,
        power=power,
        band=band,
        pictures=evidence.pictures,
        groups=None if evidence.groups.order is None else evidence.groups.count,
        of_configurations=evidence.seeds is not None,
        seed_share=_seed_share(evidence),
        borrowed=_with_borrowed_seeds(field),
        unsteady=_unsteady(field),
        decided_by_seeds=by_seeds,
        collapses=_collapses(field, drawn),
        screened=0 if screening is None else len(screening.others),
        look=look,
        baseline=scale.baseline,
        lone=scale.lone,
    )


@dataclass(frozen=True, eq=False)
class _Field:
    """The candidates of a comparison, and the evidence on them.

    Attributes:
        candidates: with all of their trainings, in the order that they came in.
        collapsed: (R,) bool by name, which of a candidate's trainings collapsed.
        ranked: without those, the best first.
        scale, groups, screening: as of `judge`.
        confidence: of the intervals.
        evidence: on the ranked.
        wide: on these, and then on the trials outside the field that they were chosen from.
    """

    candidates: Sequence[Candidate]
    collapsed: dict[str, BoolArray]
    ranked: Sequence[Candidate]
    scale: Scale
    groups: Int64Array | None
    screening: Screening | None
    confidence: float
    evidence: Evidence
    wide: Evidence

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        scale: Scale,
        groups: Int64Array | None,
        screening: Screening | None,
        confidence: float,
        left_out: Collection[str],
    ) -> _Field:
        """Return the field, ranked with those that were left out behind all others."""
        found = collapsed_trainings(candidates, scale.constant)
        collapsed = {one.name: gone for one, gone in zip(candidates, found, strict=True)}
        sound = [_without(one, collapsed[one.name]) for one in candidates]
        ranked = sorted(sound, key=partial(_place, left_out))
        evidence = wide = Evidence.of(ranked, groups, lowest=scale.lowest)
        if screening is not None and (others := screening.others):
            wide = Evidence.of([*ranked, *others], groups, lowest=scale.lowest)
        return cls(
            candidates, collapsed, ranked, scale, groups, screening, confidence, evidence, wide
        )

    def with_screening(self) -> Evidence:
        """Return the evidence by all trainings that the field was chosen by, the field first."""
        if self.screening is None:
            return self.evidence
        chosen = [*map(self.screening.with_trial, self.ranked), *self.screening.others]
        whole = Evidence.of(chosen, self.groups, lowest=self.scale.lowest)
        # A training that chose is better than its repeats by luck: beside them, it would make
        # seeds seem to do more than they do, and the correction would take too much.
        return replace(whole, seeds=self.wide.seeds)


def _place(left_out: Collection[str], one: Candidate) -> tuple[bool, Place]:
    figure, log_loss = float(one.values.mean(dtype=np.float64)), one.log_loss
    latency = None if one.cost is None else round(one.cost, MEAN_DIGITS)
    return one.name in left_out, place(
        round(figure, MEAN_DIGITS),
        maximize=True,
        log_loss=round(log_loss, MEAN_DIGITS),
        latency=latency,
        name=one.name,
    )


def _check_names(candidates: Sequence[Candidate]) -> None:
    names: set[str] = set()
    for one in candidates:
        if one.name in names:
            raise ValueError(f"Two candidates are called {one.name}: each needs its own name.")
        names.add(one.name)


def _without(one: Candidate, collapsed: BoolArray) -> Candidate:
    return one.only(~collapsed) if collapsed.any() else one


def _difference(field: _Field, over_folds: tuple[str, FoldTest] | None) -> Interval:
    """Return the interval of the first one's figure minus the second's."""
    found = difference_interval(field.evidence, 0, 1, field.confidence)
    if over_folds is None:
        return found
    name, test = over_folds
    sign = 1 if name == field.ranked[0].name else -1
    ends = sorted((sign * test.interval.low, sign * test.interval.high))
    return Interval(min(found.low, ends[0]), max(found.high, ends[1]))


def _of_two(difference: Interval) -> BestComparison:
    """Return what the interval of their difference says of two candidates."""
    low, high = min(0.0, difference.low), max(0.0, difference.high)
    tied = np.array([True, 0 in difference])
    return BestComparison(tied, np.array([low, -high]), np.array([high, -low]))


def _standings(
    field: _Field, drawn: Errors, best: BestComparison, chances: Chances
) -> tuple[Standing, ...]:
    evidence, scale = field.evidence, field.scale
    quantile = simultaneous_quantile(drawn, field.confidence)
    return tuple(
        Standing(
            rank=index + 1,
            name=one.name,
            run_ids=one.run_ids,
            accuracy=float(evidence.accuracy[index]),
            figure=scale.sign * float(one.values.mean(dtype=np.float64)) + 0.0,  # no -0
            spread=_spread(one.values),
            interval=scaled_interval(evidence, index, quantile, scale),
            behind=Interval(float(best.lowest[index]), float(best.highest[index])),
            tied=bool(best.tied[index]),
            best=float(chances.best[index]),
            equal=float(chances.equal[index]),
            loss=float(chances.loss[index]),
            log_loss=one.log_loss,
            calibration_error=one.calibration_error,
            cost=one.cost,
            collapsed=int(field.collapsed[one.name].sum()),
        )
        for index, one in enumerate(field.ranked)
    )


def _near(standings: Sequence[Standing], evidence: Evidence, band: float) -> tuple[Standing, ...]:
    error = np.sqrt(evidence.difference_variance[0])
    within = evidence.figure[0] - evidence.figure <= error
    first, *others = standings
    near = [
        one
        for one, close in zip(others, within[1:].tolist(), strict=True)
        if one.tied and close and not one.collapsed
        if abs(first.figure - one.figure) <= band + _ROUNDING
    ]
    return (first, *near)


def cheapest(tied: Sequence[Standing]) -> Standing | None:
    """Return the best that no other undercuts by a third; None where a cost is missing.

    A candidate is passed over only for one that costs at least a third less.

    Args:
        tied: at least one, the best first.
    """
    costs = {one.name: one.cost for one in tied if one.cost is not None}
    if len(costs) < len(tied):
        return None
    found = tied[0]
    while True:
        dear = costs[found.name]
        saving = (one for one in tied if dear > costs[one.name] <= dear / _CHEAPER)
        cheaper = next(saving, None)
        if cheaper is None:
            return found
        found = cheaper


def _power(
    field: _Field, errors: Errors, best: BestComparison, gap: float
) -> tuple[Power | None, float | None]:
    """Return the power to tell the tied from each other, and how probably further seeds would."""
    if len(best.tied) == 1:
        return None, None
    evidence = field.evidence
    critical = control_quantile(evidence, errors, 1, normal_quantile(field.confidence))
    power = power_of_tied(evidence, best.tied, critical, gap)
    return power, decided_by_seeds(evidence, best.tied, critical)


def _seed_share(evidence: Evidence) -> float | None:
    """Return the share of seeds in the winner's variance; None where they are not known to act."""
    if evidence.seeds is None:
        return None
    variance = float(evidence.variance[0])
    return float(evidence.seed_variance[0]) / variance if variance > 0 else 0.0


def _with_borrowed_seeds(field: _Field) -> tuple[str, ...]:
    """Return the names of those of one training, whose effect of seeds is that of the others."""
    if field.evidence.seeds is None:
        return ()
    return tuple(one.name for one in field.ranked if len(one.right) == 1)


def _unsteady(field: _Field) -> tuple[str, ...]:
    """Return the names of those that seeds may move by more than the pictures leave open.

    With few trainings of a candidate the effect of its seeds is estimated from all candidates, and
    taken to be about the same for each. Where it may be large, intervals rest on that assumption.
    """
    evidence = field.evidence
    if evidence.seeds is None:
        return ()
    most = evidence.seeds.at_most(_CHANCE_OF_LARGER_EFFECT)
    moved = (most - 1) * evidence.seeds.luck / evidence.repeats
    few = (evidence.repeats <= _FEW_REPEATS) & (moved > evidence.picture_variance)
    return tuple(one.name for one, named in zip(field.ranked, few.tolist(), strict=True) if named)


def _spread(scores: BoolArray | Float32Array) -> float | None:
    return float(scores.mean(axis=1).std(ddof=1)) if len(scores) > 1 else None


def _collapses(field: _Field, drawn: Errors) -> Collapses | None:
    """Return what collapsed, and what follows for the winner's mean over all trainings.

    That one collapses is taken to be as probable for all candidates: of three trainings each,
    nobody could say whose collapse more often. Each of the two intervals that the winner's is made
    of gets half of the error.
    """
    candidates, collapsed = field.candidates, field.collapsed
    run_ids = tuple(
        run
        for one in candidates
        for run, gone in zip(one.run_ids, collapsed[one.name], strict=True)
        if gone
    )
    if not run_ids:
        return None
    among = sum(len(one) for one in collapsed.values() if len(one) > 1)
    accuracy = float(
        np.mean(np.concatenate([one.right[collapsed[one.name]].mean(axis=1) for one in candidates]))
    )
    winner = None
    if field.scale.measure == "accuracy":
        half = (1 + field.confidence) / 2
        share = exact_interval(len(run_ids), among, half)
        sound = figure_interval(field.evidence, 0, simultaneous_quantile(drawn, half))
        winner = Interval(
            (1 - share.high) * sound.low + share.high * min(accuracy, sound.low),
            (1 - share.low) * sound.high + share.low * min(accuracy, sound.high),
        )
    return Collapses(
        names=tuple(one.name for one in field.ranked if collapsed[one.name].any()),
        run_ids=run_ids,
        among=among,
        share=exact_interval(len(run_ids), among, field.confidence),
        accuracy=accuracy,
        winner=winner,
    )
