from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from src.statistics.evidence import Evidence
from src.statistics.intervals import difference_interval
from src.statistics.power import Design, power_of_tied
from tests.statistics.fields import candidate, random_field

BOTH = np.ones(2, np.bool_)


def plain(per_picture: float, per_repeat: float = 0.0) -> Design:
    return Design(1.959964, per_picture, per_repeat, pictures=500, repeats=3)


def test_is_the_formula_of_a_z_test() -> None:
    needed = plain(0.1).pictures_needed(0.02, 3)
    assert needed == math.ceil(0.1 * ((1.959964 + norm.ppf(0.8)) / 0.02) ** 2)
    assert plain(0.1).power(0.02, needed, 3) == pytest.approx(0.8, abs=1e-3)
    assert plain(0.1).detectable(needed, 3) == pytest.approx(0.02, rel=1e-3)


def test_seeds_can_drown_a_difference() -> None:
    assert plain(0.1, 3 * 0.01**2).pictures_needed(0.01, 3) is None
    design = plain(0.1, 0.005**2)
    repeats = design.repeats_needed(0.01)
    # Half of what the test can bear is left to the seeds.
    assert design.per_repeat / repeats <= (0.01 / 2.8016) ** 2 / 2
    assert design.pictures_needed(0.01, repeats) is not None
    assert plain(0.1, 0.02**2).repeats_needed(0.01) > 3


def test_few_repeats_need_more_than_the_normal_law_says() -> None:
    sure, unsure = plain(0.1, 1e-4), Design(1.959964, 0.1, 1e-4, 500, 3, seed_freedom=4)
    assert unsure.detectable(1e6, 3) > 1.2 * sure.detectable(1e6, 3)


def test_so_many_pictures_do_find_it_four_times_out_of_five() -> None:
    """By simulation, of the test that tells two candidates apart."""
    generator = np.random.default_rng(0)
    gap, changed = 0.05, 0.15
    cells = np.array([(changed + gap) / 2, (changed - gap) / 2, 1 - changed])

    def drawn(pictures: int) -> Evidence:
        kinds = generator.choice(3, pictures, p=cells)
        return Evidence.of([candidate("a", kinds != 1), candidate("b", kinds != 0)])

    needed = [power_of_tied(drawn(300), BOTH, 1.959964, gap).pictures for _ in range(40)]
    pictures = round(float(np.mean([one for one in needed if one is not None])))
    found = [difference_interval(drawn(pictures), 0, 1).low > 0 for _ in range(600)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_the_measured_difference_does_not_matter() -> None:
    """The same disagreements, dealt the other way: level, and apart."""
    right = np.arange(400) < 300
    level, behind = right.copy(), right.copy()
    level[[*range(10), *range(300, 310)]] = [False] * 10 + [True] * 10
    behind[:20] = False
    found = [
        power_of_tied(Evidence.of([candidate("a", right), candidate("b", one)]), BOTH, 1.96, 0.02)
        for one in (level, behind)
    ]
    assert found[0].pictures == pytest.approx(found[1].pictures, rel=0.06)
    assert found[0].gap == found[1].gap == 0.02


def test_groups_weigh_by_their_number() -> None:
    """Ten times the same picture: ten times as many pictures are needed."""
    field = random_field([0.8, 0.75], [1, 1], 100)
    tenfold = [candidate(one.name, np.repeat(one.right, 10, axis=1)) for one in field]
    once = power_of_tied(Evidence.of(field), BOTH, 1.96, 0.02)
    grouped = power_of_tied(Evidence.of(tenfold, np.repeat(np.arange(100), 10)), BOTH, 1.96, 0.02)
    assert once.pictures is not None and grouped.pictures is not None
    assert grouped.pictures == pytest.approx(10 * once.pictures, rel=0.1)


def test_refuses_a_gap_that_is_none() -> None:
    with pytest.raises(ValueError, match="gap is 0"):
        power_of_tied(Evidence.of(random_field([0.8, 0.7], [1, 1])), BOTH, 1.96, 0.0)
