"""The check of what plugins bring to a network's training, before any picture is read."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...config.checks import ConfigError, input_of
from ...config.models import NetworkSettings
from ...config.schema import RunSettings
from ...config.training import OptimizerSettings
from ...machine.imports import import_object, is_foreign
from ...training.links import outputs_of, probabilities
from ...training.optimizers import parameter_groups
from .network import check_network
from .task import made, made_loss, make_schedule

__all__ = ["check_plugins"]

_CLASSES, _PIXELS, _STEPS = 5, (8, 8), 10
_LOSS = (
    "class Loss(torch.nn.Module) with link, one of softmax, sigmoid, corn, with "
    "__init__(self, *, class_weights, ...) and with forward(self, logits, targets), which returns "
    "a scalar"
)
_OPTIMIZER = "optimizer(params, *, ...), which returns a torch.optim.Optimizer"
_SCHEDULE = "schedule(total_steps, *, ...), which returns a function of the step: a factor"


def check_plugins(settings: RunSettings) -> None:
    """Try the network, loss, optimizer and schedule of a plugin; those of the project pass.

    Raises:
        ConfigError: names the file, the class or function, and what it lacks.
    """
    check_network(settings)
    if not isinstance(settings.model, NetworkSettings):
        return
    parts: list[tuple[str, str, Callable[[RunSettings], str | None], str]] = [
        ("loss", settings.loss._target_, _fault_of_loss, _LOSS),
        ("optimizer", settings.optimizer._target_, _fault_of_optimizer, _OPTIMIZER),
        ("scheduler", settings.scheduler._target_, _fault_of_schedule, _SCHEDULE),
    ]
    for group, target, fault_of, form in parts:
        if not is_foreign(target):
            continue
        with input_of(group):
            make = import_object(target)
        try:
            fault = fault_of(settings)
        except Exception as error:
            fault = f"it fails: {type(error).__name__}: {error}"
        if fault is not None:
            file = inspect.getsourcefile(make) or target
            raise ConfigError(f"{group}: {file}, {make.__name__}: {fault}; write it as {form}.")


def _fault_of_loss(settings: RunSettings) -> str | None:
    """Return what a loss does not do with logits of two pictures, or None."""
    kind = settings.data.target
    loss = made_loss(settings, kind, torch.ones(_CLASSES))
    pixels = _PIXELS if kind == "dense" else ()
    logits = torch.zeros(2, outputs_of(loss.link, _CLASSES), *pixels, requires_grad=True)
    probabilities(logits, loss.link)
    if (loss.link == "sigmoid") != (kind == "multi"):
        return (
            f"link is {loss.link}, with data.target={kind}: sigmoid is for multi, and no other is"
        )
    shares = torch.full((2, _CLASSES), 1 / _CLASSES)
    targets = [shares if kind == "multi" else torch.zeros(2, *pixels, dtype=torch.int64)]
    if settings.augment.mix_probability:
        targets.append(shares)
    for one in targets:
        value = loss(logits, one)
        if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
            return f"forward returns {value}, which is no scalar with a gradient"
    return None


def _fault_of_optimizer(settings: RunSettings) -> str | None:
    """Return what an optimizer does not do with a small network, or None."""
    network, optimizer = nn.Linear(2, 2), settings.optimizer
    groups = parameter_groups(network, lr=optimizer.lr, weight_decay=optimizer.weight_decay)
    built = made(optimizer, OptimizerSettings, params=groups)
    if not isinstance(built, torch.optim.Optimizer):
        return f"it returns {built}"
    before = network.weight.detach().clone()
    network(torch.ones(2, 2)).square().mean().backward()
    built.step()
    return "its step changes nothing" if network.weight.equal(before) else None


def _fault_of_schedule(settings: RunSettings) -> str | None:
    """Return what is wrong with the factors of a short training, or None."""
    schedule = make_schedule(settings.scheduler, _STEPS)
    factors = [float(schedule(step)) for step in range(_STEPS + 1)]
    fine = all(math.isfinite(factor) and factor >= 0 for factor in factors)
    return None if fine else f"its factors are {factors}"
