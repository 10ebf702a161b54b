"""What a time buys, against a look at every option."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import pytest

from src.runs.candidates.affordable import _LOST_WITH_PICTURES as LOST
from src.runs.candidates.affordable import (
    SURE,
    BestOption,
    NetworkEstimate,
    Option,
    best_option,
    counts_by_share,
)

# Seconds for a picture of 224 pixels a side.
SECONDS = {"large": 4.0, "small": 1.0}
ACCURACIES = {"large": 78.0, "small": 75.0}
PICTURES = 100
WHOLE = {1.0: PICTURES}
SIDES = [*range(64, 224, 32), None]


def true_speed(option: Option) -> float:
    return 1 / (SECONDS[option.name] * ((option.size or 224) / 224) ** 2)


def buy(
    budget: float,
    guess: float = 1.0,
    described: tuple[Option, ...] = (),
    counts: Mapping[float, int] = WHOLE,
    at_once: bool = False,
) -> BestOption:
    """Buy with so many seconds a picture, where speeds are expected to be `guess` times as high."""
    estimates = {
        name: NetworkEstimate(ACCURACIES[name], 224, guess / SECONDS[name]) for name in SECONDS
    }
    return best_option(
        estimates, counts, counts[1.0] * budget, true_speed, described=described, at_once=at_once
    )


def promise(option: Option) -> float:
    lost = 8 * math.log2(224 / (option.size or 224)) - LOST * math.log2(option.share)
    return ACCURACIES[option.name] - lost


@pytest.mark.parametrize("guess", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("budget", [0.12, 0.3, 0.8, 1.2, 2.0, 3.5, 5.0])
def test_the_most_promising_option_that_ends_in_time_is_bought(budget: float, guess: float) -> None:
    """However wrong the speeds are that were expected."""
    options = [Option(name, side) for name in SECONDS for side in SIDES]
    fitting = [one for one in options if 1 / true_speed(one) <= SURE * budget]
    best = max(fitting, key=promise)
    found = buy(budget, guess)
    assert (found.option, found.fits, found.speed) == (best, True, true_speed(best))
    assert found.better is (best != Option("large"))
    assert found.measured[best] == true_speed(best), "nothing is bought that was not measured"


@pytest.mark.parametrize("guess", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("budget", [0.01, 0.03, 0.12, 0.3, 0.8, 1.2, 2.0, 5.0])
def test_some_of_the_training_pictures_may_be_worth_more_than_all_at_a_smaller_size(
    budget: float, guess: float
) -> None:
    # So many that the time of this process itself decides nothing.
    counts = {1.0: 100_000, 0.5: 55_000, 0.25: 33_000, 0.125: 22_000}
    options = [Option(n, side, share) for n in SECONDS for side in SIDES for share in counts]
    left = SURE * budget * counts[1.0]
    fitting = [one for one in options if counts[one.share] / true_speed(one) <= left]
    found = buy(budget, guess, counts=counts)
    assert found.fits is bool(fitting)
    if fitting:
        assert promise(found.option) == max(map(promise, fitting))
    else:
        assert found.option == Option("small", 64, 0.125)
    assert found.speed == true_speed(found.option)
    assert found.better is (found.option != Option("large"))
    assert {one.share for one in found.measured} == {1.0}, "a share has no speed of its own"


def test_the_shares_are_halves_of_halves_until_pictures_are_few() -> None:
    assert counts_by_share(3000, 300, 10) == {1.0: 3300, 0.5: 1800, 0.25: 1050, 0.125: 675}
    assert counts_by_share(3000, 300, 100) == {1.0: 3300, 0.5: 1800}
    assert counts_by_share(399, 50, 2) == {1.0: 449}


def test_where_nothing_ends_in_time_the_fastest_is_named() -> None:
    found = buy(0.01)
    assert (found.option, found.fits, found.better) == (Option("small", 64), False, True)
    assert found.speed == true_speed(found.option)


def test_what_is_described_already_costs_nothing_and_is_left_for_something_better_alone() -> None:
    known = Option("small", 192)
    assert buy(0.5, described=(known,)).option == known
    assert buy(0.01, described=(known,)).fits
    assert buy(1.2, described=(known,)).option == Option("small")
    first = buy(1.2, described=(known,), at_once=True)
    assert first.option == known and first.better and not first.measured
    assert buy(1.2, at_once=True).option == Option("small"), "there is nothing that costs nothing"


def test_a_network_of_one_size_has_no_smaller_pictures() -> None:
    estimates = {"fixed": NetworkEstimate(75.0, None, 1.0)}
    assert not best_option(estimates, WHOLE, 50.0, lambda _: 1.0).fits
    assert best_option(estimates, WHOLE, 120.0, lambda _: 1.0).option == Option("fixed")


def test_a_moment_in_which_other_programs_ran_does_not_decide() -> None:
    """Each option is five times as slow when it is measured for the first time."""
    seen: list[Option] = []

    def disturbed(option: Option) -> float:
        seen.append(option)
        return true_speed(option) / (5 if seen.count(option) == 1 else 1)

    estimates = {
        name: NetworkEstimate(ACCURACIES[name], 224, 1 / SECONDS[name]) for name in SECONDS
    }
    for budget in (0.3, 0.8, 1.2, 3.5):
        seen.clear()
        found = best_option(estimates, WHOLE, PICTURES * budget, disturbed)
        assert found.option == buy(budget).option
        assert seen.count(found.option) == 2, "the same is not measured again and again"


def test_without_time_for_measuring_the_pixels_tell_the_speed() -> None:
    """Not the small size that happened to be measured, if a larger one should end as well."""
    sizes: list[int | None] = []

    def slow_measure(option: Option) -> float:
        sizes.append(option.size)
        time.sleep(0.3)
        # Three times as fast as expected: the options measured are too small at first.
        return 3 * true_speed(option)

    estimates = {"small": NetworkEstimate(ACCURACIES["small"], 224, 1 / SECONDS["small"])}
    found = best_option(estimates, WHOLE, 1.0, lambda one: 100 * slow_measure(one))
    assert len(sizes) == 1
    assert found.option.size not in sizes
    assert found.option.size is None or found.option.size > (sizes[0] or 0)
