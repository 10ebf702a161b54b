from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import binomtest
from scipy.stats import t as student

from benchmarks.reference_intervals import cluster_bootstraps, wilson_for_all


@pytest.mark.parametrize(("right", "candidates"), [(528, 1), (528, 30), (600, 5), (0, 2)])
def test_wilson_for_all_is_scipys_at_sidaks_level(right: int, candidates: int) -> None:
    level = 0.95 ** (1 / candidates)
    theirs = binomtest(right, 600).proportion_ci(level, method="wilson")
    ours = wilson_for_all(right / 600, 600, candidates)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_bootstraps_of_groups_are_those_that_draw_pictures_by_hand() -> None:
    generator = np.random.default_rng(0)
    groups = np.sort(generator.integers(12, size=150))
    common = generator.standard_normal((2, 12))[:, groups]
    right = common + generator.standard_normal((2, 150)) < 0.8
    found = cluster_bootstraps(right, groups, np.random.default_rng(1), draws=4000)
    figure, members = right.mean(axis=1), [np.flatnonzero(groups == g) for g in range(12)]

    def error(chosen: list[np.ndarray]) -> np.ndarray:
        count = sum(map(len, chosen))
        mean = np.concatenate([right[:, one] for one in chosen], axis=1).mean(axis=1)
        sums = [right[:, one].sum(axis=1) - mean * len(one) for one in chosen]
        return np.sqrt(np.square(sums).sum(axis=0)) / count

    off, own = [], []
    for _ in range(1500):
        chosen = [members[g] for g in generator.integers(12, size=12)]
        mean = np.concatenate([right[:, one] for one in chosen], axis=1).mean(axis=1)
        off.append(mean - figure)
        own.append(error(chosen))
    spread = np.std(off, axis=0)
    plain = spread * np.quantile(np.abs(off / spread).max(axis=1), 0.95)
    ratios = error(members) * np.quantile(np.abs(np.divide(off, own)).max(axis=1), 0.95)
    halves = {
        "a bootstrap of groups": plain,
        "one with Student's quantile": spread * student.ppf((1 + 0.95**0.5) / 2, 11),
        "one by Student's ratios": ratios,
    }
    for name, half in halves.items():
        expected = np.stack([figure - half, figure + half], axis=1).clip(0, 1)
        assert found[name] == pytest.approx(expected, abs=0.08 * half.max())
    # Of log-odds: the interval is as long about its middle, and within 0 and 1.
    odds = logit(found["one by Student's ratios of log-odds"])
    assert odds.mean(axis=1) == pytest.approx(logit(figure))
    moved = logit(figure + np.array(off)) - logit(figure)
    inside = figure + np.array(off)
    of_odds = moved * inside * (1 - inside) / own
    half = error(members) / (figure * (1 - figure)) * np.quantile(np.abs(of_odds).max(axis=1), 0.95)
    assert np.diff(odds, axis=1)[:, 0] / 2 == pytest.approx(half, rel=0.1)
