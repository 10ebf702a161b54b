"""How a family is fitted into the time there is, by a pool that answers at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from src.config.checks import ConfigError
from src.machine.failures import RunFailed
from src.search.pool import Ended
from src.search.space import Family
from src.search.workers.process import Ending
from src.sweeps.clock import Clock
from src.sweeps.prepare import Preparation


class Answers:
    """A pool that answers each preparation by what `cost` makes of its words."""

    def __init__(self, cost: Callable[[list[str]], dict[str, Any]]) -> None:
        self.cost = cost
        self.jobs: list[Mapping[str, Any]] = []

    def run_alone(self, job: Mapping[str, Any], check: Callable[[], None]) -> Ended:
        self.jobs.append(job)
        found = self.cost(list(job["words"]))
        state = found.pop("state", "complete")
        result = {"words": ["data.batch_size=64"], "epochs": 12, "notes": []} | found
        return Ended(0, job, Ending(state, result, reason="no such thing"), False, 0.1)


def preparation(pool: Answers, seconds: float | None, *base: str) -> Preparation:
    clock = Clock(seconds, finals=False, earlier=0, note=lambda _: None, now=lambda: 0.0)
    return Preparation(pool, clock, base, ["output_dir=out"], lambda: None)  # type: ignore[arg-type]


def family(name: str, *words: str) -> Family:
    return Family(name, words or (f"model={name}",), (), {})


def of_size(large: float, small: float) -> Callable[[list[str]], dict[str, Any]]:
    """Seconds an epoch at the usual size of pictures, and at a smaller one."""

    def cost(words: list[str]) -> dict[str, Any]:
        shrunk = any(w.startswith(("data.image_size=", "model.input_size=")) for w in words)
        return {"seconds_per_epoch": small if shrunk else large}

    return cost


def test_what_fits_stays_as_it_is_and_the_pool_is_told_how_long_it_may_measure() -> None:
    pool = Answers(of_size(1.0, 0.2))
    found = preparation(pool, 100).find_out(family("cnn"))
    assert (found.epochs, found.seconds, found.affordable) == (12, 12.0, True)
    assert found.words == ["data.batch_size=64"] and not found.notes
    assert len(pool.jobs) == 1 and pool.jobs[0]["seconds"] == pytest.approx(35)


def test_without_a_limit_everything_is_affordable() -> None:
    pool = Answers(of_size(1e6, 1e6))
    assert preparation(pool, None).find_out(family("cnn")).affordable
    assert pool.jobs[0]["seconds"] is None


def test_smaller_pictures_come_before_fewer_epochs() -> None:
    found = preparation(Answers(of_size(20, 4)), 100).find_out(family("cnn"))
    assert found.words == ["data.image_size=64", "data.batch_size=64"]
    assert found.epochs == 12 and found.affordable
    assert "data.image_size=64" in found.notes[-1]


def test_then_it_gets_the_epochs_that_fit() -> None:
    found = preparation(Answers(of_size(40, 10)), 100).find_out(family("fcn"))
    assert found.epochs == 5 and found.words[-1] == "trainer.max_epochs=5" and found.affordable


def test_a_size_that_somebody_gave_is_kept() -> None:
    pool = Answers(of_size(10, 10))
    found = preparation(pool, 100, "data.image_size=96").find_out(family("cnn"))
    assert len(pool.jobs) == 1 and found.epochs == 5


def test_a_network_from_scratch_is_left_out_before_it_learns_nothing() -> None:
    found = preparation(Answers(of_size(90, 30)), 100).find_out(family("cnn"))
    assert not found.affordable and "left out" in found.notes[-1]


def test_a_tuned_network_is_worth_a_single_epoch_of_smaller_pictures() -> None:
    def cost(words: list[str]) -> dict[str, Any]:
        return of_size(90, 45)(words) | {"published": True}

    tuned = family("efficientnet_lite0", "model=efficientnet_lite0", "recipe=finetune")
    found = preparation(Answers(cost), 100).find_out(tuned)
    assert found.affordable and found.epochs == 1
    assert "model.input_size=160" in found.words


def test_wrong_input_is_told_as_such() -> None:
    def cost(words: list[str]) -> dict[str, Any]:
        return {"state": "failed", "seconds_per_epoch": 0.0, "wrong_input": True}

    with pytest.raises(ConfigError, match="cnn: no such thing"):
        preparation(Answers(cost), 100).find_out(family("cnn"))


def test_what_cannot_be_trained_ends_the_sweep_with_its_reason() -> None:
    pool = Answers(lambda words: {"state": "failed", "seconds_per_epoch": 0.0})
    with pytest.raises(RunFailed, match="cnn cannot be trained: no such thing"):
        preparation(pool, 100).find_out(family("cnn"))
