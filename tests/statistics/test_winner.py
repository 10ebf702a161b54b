from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2, kstest, norm, t, truncnorm

from src.metrics.intervals import wilson_interval
from src.statistics.evidence import Evidence
from src.statistics.intervals import accuracy_interval
from src.statistics.resampling import Errors, resample
from src.statistics.winner import (
    Winner,
    _as_rare,
    _lead,
    _winning_range,
    winner_bias,
    winners_accuracy,
)
from tests.statistics.fields import candidate, random_field


def winner(evidence: Evidence, draws: int = 2000) -> Winner:
    return winners_accuracy(evidence, int(evidence.accuracy.argmax()), resample(evidence, draws))


@pytest.mark.parametrize("hits", [200, 270, 297])
def test_the_only_candidate_has_wilsons_interval(hits: int) -> None:
    found = winner(Evidence.of([candidate("a", np.arange(300) < hits)]))
    assert (found.interval.low, found.interval.high) == pytest.approx(
        wilson_interval(hits, 300), abs=3e-4
    )
    assert found.measured == pytest.approx(hits / 300)


def test_far_ahead_there_is_nothing_to_correct() -> None:
    evidence = Evidence.of(random_field([0.9, 0.6, 0.5], [1] * 3, 2000))
    found, plain = winner(evidence), accuracy_interval(evidence, 0)
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (plain.low, plain.high), abs=1e-3
    )
    assert found.accuracy == pytest.approx(found.measured, abs=1e-3)


def test_among_equals_the_figure_comes_down() -> None:
    for seed in range(5):
        evidence = Evidence.of(random_field([0.8] * 20, [1] * 20, 300, seed=seed))
        found = winner(evidence)
        plain = accuracy_interval(evidence, found.candidate)
        assert found.accuracy < found.measured
        assert found.interval.low < plain.low
        assert found.interval.low < found.accuracy < found.interval.high


def hybrid_by_search(measured: float, error: float, lowest: float, bound: float) -> list[float]:
    """Andrews, Kitagawa & McCloskey's hybrid, by scipy's truncated normal and a fine grid."""
    grid = np.linspace(measured - bound * error, measured + bound * error, 40_001)[1:-1]
    low = np.maximum((lowest - grid) / error, -bound)
    shares = truncnorm.cdf(measured, low, bound, loc=grid, scale=error)
    levels = (1 - 0.045 / 0.995 / 2, 0.045 / 0.995 / 2)
    return [float(grid[np.abs(shares - level).argmin()]) for level in levels]


def test_two_independent_candidates_as_the_paper_has_them() -> None:
    """Uncorrelated answers to very many pictures, where shares are normal: cut off at the other."""
    count = 40_000
    first, second = np.zeros(count, bool), np.zeros(count, bool)
    first[: count // 2 + 120], second[1::2] = True, True
    evidence = Evidence.of([candidate("a", first), candidate("b", second)])
    assert abs(evidence.covariance(0)[1]) < 1e-3 * evidence.variance[0]
    found = winner(evidence, 5_000)
    error = float(np.sqrt(evidence.variance[0]))
    # Both within reach at once, at 0.5 %: Sidak for two independent ones.
    bound = float(norm.isf((1 - 0.995**0.5) / 2))
    ends = hybrid_by_search(found.measured, error, 0.5, bound)
    assert (found.interval.low, found.interval.high) == pytest.approx(ends, abs=0.05 * error)


def test_never_much_longer_than_the_simultaneous_interval() -> None:
    right = random_field([0.8], [1])[0].right
    evidence = Evidence.of([candidate("a", right), candidate("b", np.roll(right, 7))])
    found = winner(evidence)
    error = float(np.sqrt(evidence.variance[0]))
    assert found.interval.high - found.interval.low < 2 * 3.5 * error


def test_a_copy_of_the_winner_takes_nothing_from_it() -> None:
    """It wins whenever the winner does, so that it came first says nothing more."""
    field = random_field([0.85, 0.8], [1, 1], 600)
    copied = [*field, candidate("copy", field[0].right)]
    one, other = winner(Evidence.of(field)), winner(Evidence.of(copied))
    assert other.interval.low == pytest.approx(one.interval.low, abs=2e-3)
    assert other.interval.high == pytest.approx(one.interval.high, abs=2e-3)


def test_everything_right_is_possible() -> None:
    found = winner(
        Evidence.of([candidate("a", np.ones(50, bool)), candidate("b", np.arange(50) < 30)])
    )
    assert found.measured == 1.0 and found.interval.high == pytest.approx(1.0)
    assert 0.9 < found.interval.low < 1.0


def test_refuses_a_loser() -> None:
    evidence = Evidence.of(random_field([0.9, 0.5], [1, 1]))
    with pytest.raises(ValueError, match="Candidate 1 did not win"):
        winners_accuracy(evidence, 1, resample(evidence, 10))
    with pytest.raises(ValueError, match="confidence is 2"):
        winners_accuracy(evidence, 0, resample(evidence, 10), 2.0)


def test_level_candidates_are_as_far_apart_as_their_log_losses() -> None:
    """Of equals that are level, the lead is spread over a step as that of two even numbers is."""
    generator = np.random.default_rng(0)
    right = np.arange(200) % 10 > 1
    leads = []
    for _ in range(2000):
        field = []
        for name in "ab":
            turned = generator.permutation(right)
            # The loss goes with the answer, and has a part of its own.
            losses = np.where(turned, 0.1, 2.0) + generator.exponential(0.5, 200)
            field.append(candidate(name, turned, losses=losses.astype(np.float32)))
        field.sort(key=lambda one: one.log_loss)
        leads.append(200 * _lead(Evidence.of(field), 0, 1))
    # The triangular law of |U - V|: F(x) = 1 - (1 - x)^2.
    assert min(leads) >= 0 and max(leads) <= 1
    assert kstest(leads, lambda x: 1 - (1 - np.clip(x, 0, 1)) ** 2).pvalue > 0.01


def test_a_copy_that_is_level_is_a_whole_step_behind() -> None:
    right = random_field([0.8], [1])[0].right
    evidence = Evidence.of([candidate("a", right), candidate("b", right)])
    assert _lead(evidence, 0, 1) == pytest.approx(1 / 400)


def test_level_candidates_leave_an_interval() -> None:
    """Cut off at the rival itself, the law would have no room for the winner at all."""
    right = np.arange(300) % 10 > 1
    field = [candidate("a", right), candidate("b", np.roll(right, 1))]
    field[0].losses[:] *= 0.9
    found = winner(Evidence.of(field))
    assert found.interval.high - found.interval.low > 0.05
    assert found.interval.high > found.measured - 0.03


def test_the_winning_range_is_where_it_wins() -> None:
    """Moved along with its accuracy as their covariances say, the others overtake at the ends."""
    for seed in range(20):
        shares = np.random.default_rng(seed).uniform(0.6, 0.9, 6)
        evidence = Evidence.of(random_field(shares.tolist(), [5, 5, 4, 1, 1, 1], seed=seed))
        first = int(evidence.accuracy.argmax())
        low, high = _winning_range(evidence, first)
        slope = evidence.covariance(first) / evidence.variance[first]
        for moved in np.linspace(-2, 2, 401):
            others = evidence.accuracy + slope * (moved - evidence.accuracy[first])
            wins = (np.delete(others, first) <= moved).all()
            if min(abs(moved - low), abs(moved - high)) > 1e-6:
                assert wins == (low < moved < high)


def test_one_who_would_lose_by_doing_better_may_be_better_than_it_seems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rival may gain more from easy pictures than the winner does."""
    evidence = Evidence.of(random_field([0.8], [1]))
    close = evidence.accuracy[0] + 0.005
    plain = winner(evidence).interval
    monkeypatch.setattr("src.statistics.winner._winning_range", lambda *_: (-np.inf, close))
    found = winner(evidence).interval
    assert found.high > plain.high + 0.001 and found.low > plain.low + 0.001


def test_unsure_scales_make_students_law_of_the_normal_one() -> None:
    """A mean of normal laws, of variances that follow an inverse chi-square law, is Student's."""
    shares = (np.arange(20_000) + 0.5) / 20_000
    scales = np.sqrt(5 / chi2.isf(shares, 5))
    bound = _as_rare(2.5, scales, np.full(20_000, 1 / 20_000))
    assert bound == pytest.approx(t.isf(norm.sf(2.5), 5), rel=1e-3)
    assert _as_rare(2.5, np.ones(1), np.ones(1)) == pytest.approx(2.5)


def test_the_law_is_that_of_winners_whose_seeds_might_do_more_or_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Winners drawn: steady or wild with even chances, they win more often when they are wild."""
    count = 40_000
    first, second = np.zeros(count, bool), np.zeros(count, bool)
    first[: count // 2 + 300], second[1::2] = True, True
    evidence = Evidence.of([candidate("a", first), candidate("b", second)])
    variances = evidence.variance[0] * np.array([0.0, 8.0])
    monkeypatch.setattr(
        "src.statistics.winner._seed_variances", lambda *_: (variances, np.full(2, 0.5))
    )
    # Without the simultaneous interval there is nothing but the conditional law.
    monkeypatch.setattr("src.statistics.winner._as_rare", lambda *_: 12.0)
    found = winner(evidence)
    generator = np.random.default_rng(0)
    errors = np.sqrt(evidence.variance[0] + generator.choice(variances, 2_000_000))
    errors *= generator.standard_normal(len(errors))
    tail = 0.045 / 0.995 / 2
    for truth, level in ((found.interval.low, 1 - tail), (found.interval.high, tail)):
        winners = truth + errors[truth + errors > 0.5]
        assert np.mean(winners <= found.measured) == pytest.approx(level, abs=0.01)


def test_many_repeats_leave_nothing_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    field = random_field([0.8, 0.79, 0.7], [80] * 3, 500, seed_effect=0.2)
    evidence = Evidence.of(field)
    found = winner(evidence)
    monkeypatch.setattr(
        "src.statistics.winner._seed_variances",
        lambda evidence, first: (evidence.seed_variance[[first]], np.ones(1)),
    )
    sure = winner(evidence)
    length = sure.interval.high - sure.interval.low
    assert found.interval.low == pytest.approx(sure.interval.low, abs=0.05 * length)
    assert found.interval.high == pytest.approx(sure.interval.high, abs=0.05 * length)


def test_winners_by_the_luck_of_wild_seeds_are_held() -> None:
    """Two repeats, some candidates far less steady than others: the interval keeps its word."""
    held = []
    for seed in range(300):
        generator = np.random.default_rng(seed)
        wild = 0.15 * np.exp(0.8 * generator.standard_normal(8))
        difficulty = generator.standard_normal(300)
        field = []
        for index, effect in enumerate(wild):
            skill = norm.ppf(0.8) * np.sqrt(2 + effect**2) + effect * generator.standard_normal(2)
            answers = difficulty + skill[:, None] + generator.standard_normal((2, 300))
            field.append(candidate(f"c{index}", answers > 0))
        held.append(0.8 in winner(Evidence.of(field), 500).interval)
    assert 0.91 <= np.mean(held) <= 0.97


def errors_of(drawn: np.ndarray) -> Errors:
    return Errors(drawn.astype(np.float32), np.full(drawn.shape[1], 0.5))


def test_of_two_equals_it_is_what_the_larger_of_two_numbers_is() -> None:
    """E max(X, Y) of two independent normal numbers is their standard deviation over root pi."""
    right = np.arange(400) % 10 > 1
    evidence = Evidence.of([candidate("a", right), candidate("b", np.roll(right, 3))])
    drawn = 0.02 * np.random.default_rng(0).standard_normal((2, 200_000))
    assert winner_bias(evidence, errors_of(drawn)) == pytest.approx(
        0.02 / math.sqrt(math.pi), rel=0.02
    )


def test_what_errors_spread_apart_is_drawn_together_and_no_further() -> None:
    """MeasuredRun apart by no more than errors do, twenty count as equal; by more, as less so."""
    drawn = 0.02 * np.random.default_rng(0).standard_normal((20, 100_000))
    found = []
    for spread in (0.0, 0.015, 0.04):
        shares = 0.8 + spread * np.linspace(-1, 1, 20)
        evidence = Evidence.of(
            [candidate(str(i), np.arange(2000) < round(2000 * s)) for i, s in enumerate(shares)]
        )
        found.append(winner_bias(evidence, errors_of(drawn)))
    equals = float(drawn.max(axis=0).mean())
    assert found[:2] == pytest.approx([equals, equals], rel=0.01)
    assert 0 < found[2] < 0.9 * equals


def test_far_ahead_or_alone_there_is_nothing() -> None:
    field = random_field([0.95, 0.6, 0.5], [1] * 3, 2000)
    evidence = Evidence.of(field)
    assert winner_bias(evidence, resample(evidence, 2000)) < 5e-4
    alone = Evidence.of(field[:1])
    assert winner_bias(alone, resample(alone, 2000)) < 5e-4


def test_among_equals_the_corrected_figure_is_right_on_the_average_and_nearer_each_time() -> None:
    errors = []
    for seed in range(150):
        evidence = Evidence.of(random_field([0.8] * 12, [1] * 12, 300, seed=seed))
        measured = float(evidence.accuracy.max())
        corrected = measured - winner_bias(evidence, resample(evidence, 300, seed))
        errors.append((measured - 0.8, corrected - 0.8))
    naive, ours = np.array(errors).T
    assert naive.mean() > 0.02 and abs(ours.mean()) < 0.005
    assert np.sqrt((ours**2).mean()) < 0.7 * np.sqrt((naive**2).mean())
