"""The metrics that a sweep can go by, and those that plugins add to every run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from .checks import ConfigError

__all__ = [
    "COST",
    "METRICS",
    "PRIMARY",
    "further_metrics",
    "metric",
    "metrics_of",
    "reported_metrics",
]

Function = TypeVar("Function", bound=Callable[..., float])

# Measured where a sweep has a table of costs.
COST = "val/cost"
# Which way is better. Only validation: the test part is not used in a search.
METRICS = {
    "val/accuracy": "maximize",
    "val/map": "maximize",
    "val/kappa": "maximize",
    "val/miou": "maximize",
    "val/dice": "maximize",
    "val/pixel_accuracy": "maximize",
    "val/macro_f1": "maximize",
    "val/balanced_accuracy": "maximize",
    "val/auc": "maximize",
    "val/micro_f1": "maximize",
    "val/hamming_loss": "minimize",
    "val/mae": "minimize",
    COST: "minimize",
    "val/loss": "minimize",
    "val/log_loss": "minimize",
    "val/calibration_error": "minimize",
    "cost/parameters": "minimize",
    "cost/flops": "minimize",
    "cost/latency_ms": "minimize",
    "cost/training_seconds": "minimize",
}
# What runs are judged by unless another metric is asked for, by `data.target`.
PRIMARY = {
    "single": "val/accuracy",
    "multi": "val/map",
    "ordinal": "val/kappa",
    "dense": "val/miou",
}
# Those that not every `data.target` has; without pixels are also the metrics of plugins.
_TARGETS_OF_PICTURES = frozenset({"single", "multi", "ordinal"})
_TARGETS = {
    "val/accuracy": _TARGETS_OF_PICTURES,
    "val/map": frozenset({"multi"}),
    "val/kappa": frozenset({"ordinal"}),
    "val/miou": frozenset({"dense"}),
    "val/dice": frozenset({"dense"}),
    "val/pixel_accuracy": frozenset({"dense"}),
    "val/macro_f1": _TARGETS_OF_PICTURES,
    "val/balanced_accuracy": frozenset({"single", "ordinal"}),
    "val/auc": _TARGETS_OF_PICTURES,
    "val/micro_f1": frozenset({"multi"}),
    "val/hamming_loss": frozenset({"multi"}),
    "val/mae": frozenset({"ordinal"}),
    COST: frozenset({"single", "ordinal"}),
    "val/calibration_error": _TARGETS_OF_PICTURES,
}
_PLUGIN_METRICS: dict[str, Callable[..., float]] = {}


def metrics_of(target: str) -> list[str]:
    """Return those of `METRICS` that runs with this `data.target` measure."""
    return [name for name in METRICS if target in _TARGETS.get(name, {target})]


def reported_metrics(target: str) -> list[str]:
    """Return those of `metrics_of` that networks know after every epoch."""
    return [name for name in metrics_of(target) if name in ("val/loss", *PRIMARY.values())]


def metric(name: str, direction: Literal["maximize", "minimize"]) -> Callable[[Function], Function]:
    """Register a metric, computed for every part that a run measures, as `{part}/NAME`.

    The decorated function takes probabilities (N, K) float32 and targets (N,) int64 and returns a
    finite number.

    Raises:
        ConfigError: a metric has the name.
    """

    def register(function: Function) -> Function:
        if name in _PLUGIN_METRICS or f"val/{name}" in METRICS:
            raise ConfigError(f"metric {name}: there is one of that name already.")
        _PLUGIN_METRICS[name] = function
        METRICS[f"val/{name}"] = direction
        _TARGETS[f"val/{name}"] = _TARGETS_OF_PICTURES
        return function

    return register


def further_metrics(probs: Any, targets: Any) -> dict[str, float]:
    """Return the metrics of the plugins by their plain names.

    Raises:
        ConfigError: one of them fails, or returns no finite number.
    """
    found = {}
    for name, function in _PLUGIN_METRICS.items():
        try:
            found[name] = float(function(probs, targets))
        except Exception as error:
            raise ConfigError(
                f"metric {name} of {function.__module__} fails: {type(error).__name__}: {error}."
            ) from error
        if not math.isfinite(found[name]):
            raise ConfigError(f"metric {name} of {function.__module__} is {found[name]}.")
    return found
