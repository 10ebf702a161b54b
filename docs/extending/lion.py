"""Lion (Chen et al., 2023, arXiv:2302.06675), as an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from src.config.checks import setting, variant
from src.config.training import OptimizerSettings


@variant(OptimizerSettings, "lion.Lion")
@dataclass(frozen=True)
class LionSettings(OptimizerSettings):
    """The arguments of `Lion`, beside learning rate and weight decay."""

    fast: float = setting("decay of the average in a step", at_least=0, below=1, default=0.9)
    slow: float = setting("decay of the average that is kept", at_least=0, below=1, default=0.99)


class Lion(torch.optim.Optimizer):
    """Steps of the sign of an averaged gradient; `params` are groups with `lr`, `weight_decay`."""

    def __init__(self, params: list[dict[str, Any]], *, fast: float, slow: float) -> None:
        super().__init__(params, {"fast": fast, "slow": slow})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Compute the gradients by `closure`, which Lightning gives, and change the parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            rate = group["lr"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(parameter))
                parameter.mul_(1 - rate * group["weight_decay"])
                step = average.lerp(parameter.grad, 1 - group["fast"]).sign()
                parameter.sub_(step, alpha=rate)
                average.lerp_(parameter.grad, 1 - group["slow"])
        return loss
