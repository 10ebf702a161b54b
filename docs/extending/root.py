"""A rate that falls with the root of the steps (Vaswani et al., 2017), as a schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from src.config.checks import setting, variant
from src.config.training import SchedulerSettings


@variant(SchedulerSettings, "root.inverse_root")
@dataclass(frozen=True)
class InverseRootSettings(SchedulerSettings):
    """The arguments of `inverse_root`."""

    warmup: float = setting("share of the steps on the way up", above=0, below=1, default=0.1)


def inverse_root(total_steps: int, *, warmup: float) -> Callable[[int], float]:
    """Return step -> factor of the learning rate: 1 at the end of the way up."""
    rising = max(1, round(warmup * total_steps))
    return lambda step: min((step + 1) / rising, (rising / (step + 1)) ** 0.5)
