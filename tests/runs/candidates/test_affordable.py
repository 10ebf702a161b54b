"""What a time buys, against a look at every option."""

from __future__ import annotations

import math
import time

import pytest

from src.runs.candidates.affordable import SURE, Bought, Offer, Option, best_buy

# Seconds for a picture of 224 pixels a side.
SECONDS = {"large": 4.0, "small": 1.0}
ACCURACIES = {"large": 78.0, "small": 75.0}
PICTURES = 100
SIDES = [*range(64, 224, 32), None]


def true_speed(option: Option) -> float:
    return 1 / (SECONDS[option.name] * ((option.size or 224) / 224) ** 2)


def buy(budget: float, guess: float = 1.0, described: tuple[Option, ...] = ()) -> Bought:
    """Buy with so many seconds a picture, where speeds are expected to be `guess` times as high."""
    offers = {name: Offer(ACCURACIES[name], 224, guess / SECONDS[name]) for name in SECONDS}
    return best_buy(offers, PICTURES, PICTURES * budget, true_speed, described)


def promise(option: Option) -> float:
    return ACCURACIES[option.name] - 8 * math.log2(224 / (option.size or 224))


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


def test_where_nothing_ends_in_time_the_fastest_is_named() -> None:
    found = buy(0.01)
    assert (found.option, found.fits, found.better) == (Option("small", 64), False, True)
    assert found.speed == true_speed(found.option)


def test_what_is_described_already_costs_nothing_and_is_left_for_something_better_alone() -> None:
    known = Option("small", 192)
    assert buy(0.5, described=(known,)).option == known
    assert buy(0.01, described=(known,)).fits
    assert buy(1.2, described=(known,)).option == Option("small")


def test_a_network_of_one_size_has_no_smaller_pictures() -> None:
    offers = {"fixed": Offer(75.0, None, 1.0)}
    assert not best_buy(offers, 100, 50.0, lambda _: 1.0).fits
    assert best_buy(offers, 100, 120.0, lambda _: 1.0).option == Option("fixed")


def test_a_moment_in_which_other_programs_ran_does_not_decide() -> None:
    """Each option is five times as slow when it is measured for the first time."""
    seen: list[Option] = []

    def disturbed(option: Option) -> float:
        seen.append(option)
        return true_speed(option) / (5 if seen.count(option) == 1 else 1)

    offers = {name: Offer(ACCURACIES[name], 224, 1 / SECONDS[name]) for name in SECONDS}
    for budget in (0.3, 0.8, 1.2, 3.5):
        seen.clear()
        found = best_buy(offers, PICTURES, PICTURES * budget, disturbed)
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

    offers = {"small": Offer(ACCURACIES["small"], 224, 1 / SECONDS["small"])}
    found = best_buy(offers, PICTURES, 1.0, lambda one: 100 * slow_measure(one))
    assert len(sizes) == 1
    assert found.option.size not in sizes
    assert found.option.size is None or found.option.size > (sizes[0] or 0)
