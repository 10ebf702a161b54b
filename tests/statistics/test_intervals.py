from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, ttest_ind
from scipy.stats import t as student

from src.metrics.share_intervals import score_interval, wilson_interval
from src.records.run import Predictions
from src.statistics.candidates import Candidate, Measure, Scale
from src.statistics.evidence import Evidence
from src.statistics.intervals import (
    Interval,
    difference_interval,
    figure_interval,
    measure_interval,
    scores_interval,
    share_interval,
    simultaneous_quantile,
)
from src.statistics.resampling import resample
from src.statistics.verdict import judge
from src.targets import kind_of
from tests.statistics.fields import candidate, random_field


@given(st.integers(2, 300), st.data())
def test_a_single_training_has_wilsons_interval(pictures: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, pictures))
    evidence = Evidence.of([candidate("a", np.arange(pictures) < hits)])
    found = figure_interval(evidence, 0, 1.959964)
    expected = wilson_interval(hits, pictures)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_of_unrelated_candidates_all_at_once_are_sidaks(count: int) -> None:
    """Exactly uncorrelated answers: each error is allowed 1 - 0.95^(1/C), and no more."""
    patterns = np.array(list(itertools.product([False, True], repeat=count)))
    right = np.tile(patterns, (-(-3000 // len(patterns)), 1)).T
    evidence = Evidence.of([candidate(f"c{i}", row) for i, row in enumerate(right)])
    quantile = simultaneous_quantile(resample(evidence, 40_000))
    assert quantile == pytest.approx(norm.isf((1 - 0.95 ** (1 / count)) / 2), rel=0.01)


def test_copies_need_no_more_than_one() -> None:
    right = random_field([0.8], [1])[0].right
    evidence = Evidence.of([candidate(str(i), right) for i in range(20)])
    quantile = simultaneous_quantile(resample(evidence, 20_000))
    expected = wilson_interval(int(right.sum()), 400)
    one = figure_interval(evidence, 0, quantile)
    assert (one.low, one.high) == pytest.approx(expected, abs=1e-3)


@given(st.lists(st.integers(0, 60), min_size=2, max_size=6), st.integers(1, 3))
def test_every_interval_holds_its_own_figure(wrong: list[int], repeats: int) -> None:
    field = [
        candidate(str(i), np.stack([np.roll(np.arange(60) >= w, i + r) for r in range(repeats)]))
        for i, w in enumerate(wrong)
    ]
    evidence = Evidence.of(field)
    quantile = simultaneous_quantile(resample(evidence, 50))
    for index, figure in enumerate(evidence.figure):
        one = figure_interval(evidence, index, quantile)
        assert one.low <= figure <= one.high and one.high - one.low > 0.01


def test_a_difference_of_single_trainings_is_bonett_and_prices() -> None:
    field = random_field([0.7, 0.8], [1, 1])
    first, second = field[0].right[0], field[1].right[0]
    up = ((first & ~second).sum() + 1) / 402
    down = ((second & ~first).sum() + 1) / 402
    half = 1.959964 * math.sqrt((up + down - (up - down) ** 2) / 402)
    found = difference_interval(Evidence.of(field), 0, 1)
    # The variance here divides by one picture less.
    assert (found.low, found.high) == pytest.approx((up - down - half, up - down + half), abs=2e-4)


def test_differences_turn_with_their_pair() -> None:
    evidence = Evidence.of(random_field([0.7, 0.8], [2, 3], seed_effect=0.2))
    one, other = difference_interval(evidence, 0, 1), difference_interval(evidence, 1, 0)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_a_difference_of_many_trainings_is_that_of_two_means() -> None:
    """The pictures are so many that seeds are all the error; Welch's interval is the reference."""
    field = random_field([0.7, 0.8], [60, 40], 20_000, seed_effect=0.2)
    one, other = (each.right.mean(axis=1) for each in field)
    expected = ttest_ind(one, other, equal_var=False).confidence_interval()
    found = difference_interval(Evidence.of(field), 0, 1)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1.5e-3)


def test_unsure_seeds_widen_as_students_law_does() -> None:
    """Nearly all of the error is that of three seeds: the t interval of three numbers."""
    field = random_field([0.8], [3], 100_000, seed_effect=0.1)
    shares = field[0].right.mean(axis=1)
    half = student.ppf(0.975, 2) * shares.std(ddof=1) / math.sqrt(3)
    found = figure_interval(Evidence.of(field), 0, 1.959964)
    # Wilson's form bends it a little, away from the nearer end.
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)


def test_figures_that_are_no_shares_have_students_interval() -> None:
    losses = np.random.default_rng(0).exponential(0.3, 30).astype(np.float32)
    field = [candidate("a", np.ones(30, bool), scores=-losses[None])]
    numbers = np.arange(30)
    evidence = Evidence.of(field, numbers, lowest=None)
    deviations = (losses - losses.mean()).astype(np.float64) ** 2
    freedom = 2 * deviations.mean() ** 2 / (deviations.var() / 30)
    half = student.ppf(0.975, freedom) * losses.std(ddof=1) / math.sqrt(30)
    found = figure_interval(evidence, 0, 1.959964)
    ends = -losses.mean() - half, -losses.mean() + half
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-4)


def test_repeats_that_are_right_in_turn_have_an_interval_as_one_answer_a_picture_has() -> None:
    """Two pictures of a class, each right in one of two trainings: nothing seems to vary."""
    found = share_interval(np.array([[True, False], [False, True]]))
    assert found is not None
    assert (found.low, found.high) == pytest.approx(wilson_interval(1, 2), abs=1e-3)


def test_pictures_of_one_group_say_nothing_of_others() -> None:
    right = np.ones((2, 3), np.bool_)
    assert share_interval(right[:, :1]) is None and share_interval(right, np.zeros(3, int)) is None
    assert share_interval(right, np.array([0, 0, 1])) is not None


def test_an_interval_says_what_it_holds() -> None:
    assert 0.5 in Interval(0.4, 0.6) and 0.61 not in Interval(0.4, 0.6)
    assert str(Interval(0.4, 0.625)) == "40.0 to 62.5 %"


def test_refuses_a_confidence_that_is_none() -> None:
    evidence = Evidence.of(random_field([0.8], [1]))
    with pytest.raises(ValueError, match="confidence is 1"):
        simultaneous_quantile(resample(evidence, 10), 1.0)


def of_kappa(*preds: NDArray[np.int64], targets: NDArray[np.int64]) -> list[Candidate]:
    kind, probs = kind_of("ordinal"), np.zeros((len(targets), 5))
    return [
        candidate(f"c{i}", one == targets, scores=kind.scores("kappa", probs, one, targets)[None])
        for i, one in enumerate(preds)
    ]


@pytest.mark.parametrize(
    ("pictures", "right", "turned"), [(60, 0.98, False), (200, 0.9, False), (200, 0.3, True)]
)
def test_the_interval_of_kappa_holds_from_end_to_end(
    pictures: int, right: float, turned: bool
) -> None:
    """Near 1 Student's interval holds 66 % of the time, and below 0 kappa is no share."""

    def drawn(seed: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        generator = np.random.default_rng(seed)
        targets = generator.integers(0, 5, count)
        steps = (generator.random(count) > right) * generator.choice([-1, 1], count)
        preds = (targets + steps).clip(0, 4)
        return 4 - preds if turned else preds, targets

    (truth,) = of_kappa(drawn(1000, 200_000)[0], targets=drawn(1000, 200_000)[1])
    held = 0
    for seed in range(200):
        preds, targets = drawn(seed, pictures)
        evidence = Evidence.of(of_kappa(preds, targets=targets), lowest=-1.0)
        found = figure_interval(evidence, 0, 1.959964)
        assert -1 <= found.low <= evidence.figure[0] <= found.high <= 1 and found.low < found.high
        held += float(truth.values.mean()) in found
    assert held / 200 > 0.91


@pytest.mark.parametrize(("groups", "least"), [(15, 0.88), (40, 0.91)])
def test_the_interval_of_kappa_holds_where_groups_answer_alike(groups: int, least: float) -> None:
    """Four pictures of each have its class, and mostly the same answer."""

    def drawn(seed: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        generator = np.random.default_rng(seed)
        classes = generator.choice(5, count, p=(0.45, 0.12, 0.2, 0.17, 0.06))
        common = classes + 1.2 * generator.standard_normal(count)
        answers = np.repeat(common, 4) + 0.3 * generator.standard_normal(4 * count)
        return answers.round().clip(0, 4).astype(np.int64), np.repeat(classes, 4)

    (everything,) = of_kappa(drawn(1000, 100_000)[0], targets=drawn(1000, 100_000)[1])
    truth = float(everything.values.mean(dtype=np.float64))
    held = np.zeros(2)
    for seed in range(200):
        preds, targets = drawn(seed, groups)
        found = of_kappa(preds, targets=targets)
        for place, of in enumerate((np.repeat(np.arange(groups), 4), None)):
            evidence = Evidence.of(found, of, lowest=-1.0)
            held[place] += truth in figure_interval(evidence, 0, 1.959964)
    together, alone = held / 200
    assert together > least and alone < 0.85


def test_a_kappa_below_0_is_compared() -> None:
    targets = np.arange(200) % 5
    verdict = judge(of_kappa(4 - targets, targets, targets=targets), scale=Scale("kappa"))
    assert [one.figure for one in verdict.standings] == pytest.approx([1, -1], abs=1e-6)
    best, worst = (one.interval for one in verdict.standings)
    assert best.low > 0.9 and best.high == 1 and worst.low == -1 and worst.high < -0.9
    assert verdict.difference is not None and verdict.difference.low > 1.9
    assert verdict.difference.high == 2 and len(verdict.tied) == 1


def interval_of_costs(
    costs: NDArray[np.floating], groups: NDArray[np.int64] | None, most: float
) -> Interval:
    return scores_interval(-costs.astype(np.float32), groups, Scale("cost", ends=(0.0, most)))


def test_the_interval_of_a_mean_cost_is_a_score_interval_between_its_ends() -> None:
    generator = np.random.default_rng(0)
    costs = np.where(generator.random(400) < 0.2, generator.choice([1.0, 5.0], 400), 0.0)
    found = interval_of_costs(costs, None, 5.0)
    mean, error = costs.mean(), costs.std(ddof=1) / 20
    # Each end is the mean that has the measured one as far off, where variance grows as a share's.
    reaches = [
        abs(mean - end) / (error * np.sqrt(end * (5 - end) / (mean * (5 - mean))))
        for end in (found.low, found.high)
    ]
    assert reaches[0] == pytest.approx(reaches[1], rel=1e-5)
    assert 1.96 < reaches[0] < 2.02 and found.high - mean > mean - found.low
    groups = np.arange(400) // 10
    grouped = interval_of_costs(np.repeat(costs[:40], 10), groups, 5.0)
    alone = interval_of_costs(costs[:40], None, 5.0)
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), rel=1e-3)
    # Nothing is known of other groups, or pictures.
    assert interval_of_costs(costs, np.zeros(400, np.int64), 5.0) == Interval(0.0, 5.0)
    assert interval_of_costs(costs[:1], None, 5.0) == Interval(0.0, 5.0)


def test_costs_that_are_all_alike_have_an_interval_for_those_that_were_not_met() -> None:
    """That no picture of 300 cost anything does not say that none will."""
    unseen = binomtest(0, 300).proportion_ci(0.95, method="wilson").high
    found = interval_of_costs(np.zeros(300), None, 20.0)
    assert (found.low, found.high) == (0.0, pytest.approx(20 * unseen))
    found = interval_of_costs(np.ones(300), None, 20.0)
    assert (found.low, found.high) == pytest.approx((1 - unseen, 1 + 19 * unseen))
    field = [candidate("right", np.ones(300, np.bool_), scores=np.zeros((1, 300), np.float32))]
    shown = judge(field, scale=Scale("cost", ends=(0.0, 20.0))).winner
    assert (shown.interval.low, shown.interval.high) == (0.0, pytest.approx(20 * unseen))


@pytest.mark.parametrize(
    ("kind", "measure"),
    [("single", "log_loss"), ("single", "macro_f1"), ("ordinal", "kappa"), ("multi", "map")],
)
def test_the_interval_of_any_measure_is_about_that_of_the_bootstrap(
    kind: str, measure: str
) -> None:
    generator = np.random.default_rng(4)
    targets = generator.integers(0, 4, 300)
    logits = generator.standard_normal((300, 4)) + 2 * np.eye(4)[targets]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if kind == "multi":
        targets = (generator.random((300, 4)) < 0.4).astype(np.uint8)
        probs = 1 / (1 + np.exp(1 - logits - 2 * targets))
    names = tuple("abcd")
    whole = Predictions(np.arange(300), None, targets, probs.astype(np.float32), names, kind=kind)
    found = measure_interval(whole, Measure(measure))
    drawn = [
        kind_of(kind).evaluate(probs[rows], targets[rows], names)[measure]
        for rows in generator.integers(0, 300, (400, 300))
    ]
    figure = kind_of(kind).evaluate(probs, targets, names)[measure]
    assert found.low < figure < found.high
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(drawn), rel=0.15)
    # Groups that are copies of a picture know no more than one of them.
    twice = replace(
        whole,
        sample_ids=np.arange(600),
        targets=np.repeat(targets, 2, axis=0),
        probs=np.repeat(whole.probs, 2, axis=0),
        groups=np.repeat(np.arange(300), 2),
    )
    grouped = measure_interval(twice, Measure(measure))
    assert (grouped.low, grouped.high) == pytest.approx((found.low, found.high), rel=0.03)


def test_who_met_no_dear_mistake_by_luck_varies_as_the_field_does() -> None:
    """Two that make the same cheap mistakes, the second five dear ones as well."""
    cheap = np.zeros((1, 600), np.float32)
    cheap[0, :60] = -1
    dear = cheap.copy()
    dear[0, 100:105] = -20
    right = np.zeros(600, np.bool_)
    field = [candidate("lucky", right, scores=cheap), candidate("dear", right, scores=dear)]
    alone = judge(field[:1], scale=Scale("cost", ends=(0.0, 20.0))).winner
    beside = judge(field, scale=Scale("cost", ends=(0.0, 20.0))).winner
    assert beside.name == alone.name == "lucky" and alone.interval.high < 0.15
    # Of costs whose mean square is so many times their mean, as the field's, by Wilson's quadratic.
    figures, squares = np.array([0.1, 160 / 600]), np.array([60, 2060]) / 600
    trials = 600 * (figures * (20 - figures)).sum() / (squares - figures**2).sum()
    expected = [20 * end for end in score_interval(0.1 / 20, trials, 1.96)]
    assert beside.interval.high > expected[1] > 0.18
    assert beside.interval.high == pytest.approx(expected[1], rel=0.15)
