"""Schedules against torch's own and against what every schedule promises."""

from __future__ import annotations

import math
import pydoc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from src.config.checks import from_plain, to_plain
from src.config.training import SchedulerSettings
from src.training.schedules import Schedule, constant, cosine, linear, one_cycle

CONF = Path(__file__).resolve().parents[2] / "conf" / "scheduler"
SHAPES: list[Callable[..., Schedule]] = [one_cycle, cosine, linear]


def rates(make_scheduler: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    """The learning rate used at each step of a training."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = make_scheduler(optimizer)
    used = []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


def test_one_cycle_is_that_of_torch() -> None:
    steps, share = 40, 0.25
    schedule = one_cycle(
        steps,
        warmup_fraction=(share * steps - 1) / (steps - 1),  # torch's peak is a step earlier
        start_divisor=25,
        final_divisor=500,
    )
    reference = rates(
        lambda optimizer: OneCycleLR(
            optimizer,
            max_lr=0.3,
            total_steps=steps,
            pct_start=share,
            div_factor=25,
            final_div_factor=20,  # of the start, not of the peak
            cycle_momentum=False,
        ),
        steps,
    )
    used = rates(lambda optimizer: LambdaLR(optimizer, schedule), steps)
    np.testing.assert_allclose(used, reference, rtol=1e-9)


@pytest.mark.parametrize("option", sorted(CONF.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_option_of_conf_makes_a_schedule(option: Path) -> None:
    chosen = from_plain(SchedulerSettings, yaml.safe_load(option.read_text()))
    own = {k: v for k, v in to_plain(chosen).items() if k not in ("_target_", "name")}
    schedule = pydoc.locate(chosen._target_)(total_steps=100, **own)
    assert chosen.name == option.stem
    assert max(schedule(i) for i in range(100)) == pytest.approx(1.0, abs=1e-3)


def test_cosine_without_warm_up_is_that_of_numpy() -> None:
    schedule = cosine(11, warmup_fraction=0.0, start_divisor=9.0, final_divisor=10.0)
    expected = 0.1 + 0.9 * (1 + np.cos(np.pi * np.arange(11) / 10)) / 2
    np.testing.assert_allclose([schedule(i) for i in range(11)], expected, rtol=1e-12)


def test_linear_joins_three_points() -> None:
    schedule = linear(101, warmup_fraction=0.2, start_divisor=4.0, final_divisor=10.0)
    expected = np.interp(np.arange(101), [0, 20, 100], [0.25, 1.0, 0.1])
    np.testing.assert_allclose([schedule(i) for i in range(101)], expected, rtol=1e-12)


def test_cosine_and_linear_warm_up_alike() -> None:
    arguments = {"warmup_fraction": 0.5, "start_divisor": 10.0, "final_divisor": 100.0}
    one, other = cosine(51, **arguments), linear(51, **arguments)
    assert [one(i) for i in range(26)] == [other(i) for i in range(26)]
    assert one(35) > other(35)


def test_constant_never_changes() -> None:
    assert {constant(3)(i) for i in range(10)} == {1.0}


@given(
    shape=st.sampled_from(SHAPES),
    total_steps=st.integers(1, 300),
    warmup_fraction=st.floats(0, 0.99),
    start_divisor=st.floats(1, 1e6),
    final_divisor=st.floats(1, 1e6),
)
def test_up_to_the_peak_then_down(
    shape: Callable[..., Schedule],
    total_steps: int,
    warmup_fraction: float,
    start_divisor: float,
    final_divisor: float,
) -> None:
    schedule = shape(
        total_steps,
        warmup_fraction=warmup_fraction,
        start_divisor=start_divisor,
        final_divisor=final_divisor,
    )
    factors = np.array([schedule(i) for i in range(total_steps)])
    assert (factors > 0).all() and (factors <= 1).all()
    peak = math.ceil(warmup_fraction * (total_steps - 1))
    rounding = 1e-12
    assert (np.diff(factors[:peak]) >= -rounding).all()
    assert (np.diff(factors[peak:]) <= rounding).all()
    assert factors[0] == pytest.approx(1.0 if warmup_fraction == 0 else 1 / start_divisor)
    if total_steps > 1:
        assert factors[-1] == pytest.approx(1 / final_divisor)
        assert schedule(total_steps) == schedule(10 * total_steps) == factors[-1]
