"""The metrics that runs are judged by, as settings name them, and those that plugins add to a run.

A metric has a plain name, "accuracy", or "cost/latency_ms" of a model, and a key, "val/accuracy".
What there are is in `src.metrics.registry`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Sequence
from typing import Any, Literal, TypeVar

from ..machine.text import nearest
from ..metrics.registry import METRICS, PRIMARY, RANKING, TARGETS_OF_PICTURES, Metric
from .checks import ConfigError, is_again, setting
from .plugins import fault_text

__all__ = [
    "COST",
    "direction_of",
    "further_metrics",
    "key_of_metric",
    "metric",
    "metric_setting",
    "metrics_of",
    "monitored_metrics",
    "plain_metric",
    "primary_of",
    "ranking_metrics",
    "reported_metrics",
]

Function = TypeVar("Function", bound=Callable[..., float])

COST = "val/cost"  # measured where there is a table of costs
_PLUGIN_METRICS: dict[str, Callable[..., float]] = {}


def primary_of(target: str) -> str:
    """Return the key of what runs with this `data.target` are judged by unless another is set."""
    return key_of_metric(PRIMARY[target])


def direction_of(key: str) -> Literal["maximize", "minimize"]:
    """Return which way the metric of a key is better."""
    return "maximize" if METRICS[plain_metric(key)].higher_is_better else "minimize"


def metrics_of(target: str | None = None) -> list[str]:
    """Return the keys of what runs with this `data.target` measure; None for any."""
    return [key_of_metric(n) for n, one in METRICS.items() if target in (None, *one.targets)]


def monitored_metrics(target: str | None = None) -> list[str]:
    """Return those of `metrics_of` that `trainer.monitor` may be: all but costs of a model."""
    return [name for name in metrics_of(target) if name.startswith("val/")]


def reported_metrics(target: str, monitor: str) -> list[str]:
    """Return those of `monitored_metrics` that networks report after every epoch, the first first.

    Args:
        target: of the runs, as `data.target`.
        monitor: key of what they watch.
    """
    reported = (monitor, primary_of(target), "val/accuracy", "val/pixel_accuracy", "val/loss")
    known = monitored_metrics(target)
    return [name for name in dict.fromkeys(reported) if name in known]


def key_of_metric(name: str) -> str:
    """Return the key of a metric that is given by its plain name, or by its key."""
    return f"val/{name}" if name in METRICS and not name.startswith("cost/") else name


def plain_metric(name: str) -> str:
    """Return the plain name of a metric that is given by it, or by its key."""
    plain = name.removeprefix("val/")
    return plain if key_of_metric(plain) == name else name


def ranking_metrics() -> list[str]:
    """Return the plain names of the metrics by which predictions of finished runs are compared."""
    return list(RANKING)


def metric_setting(meaning: str, default: Any, known: Callable[[], Sequence[str]]) -> Any:
    """Declare a setting that names metrics, by their plain names or by their keys.

    Args:
        meaning, default: as of `setting`.
        known: returns the names that it may have, plugins included.
    """

    def problem(value: Any) -> str | None:
        names = known()
        for name in value if isinstance(value, list) else [value]:
            if plain_metric(name) not in names:
                return f"it must be one of {', '.join(names)}{_meant(name, names)}"
        return None if value else "it must name at least one"

    return setting(meaning, default, check=problem, options=known)


def _meant(name: str, known: Sequence[str]) -> str:
    """Return " (did you mean ...?)" with the metric that is called so elsewhere, or alike."""
    plain = re.sub(r"\W+", "_", name.casefold().removeprefix("val/")).removeprefix("val_")
    ours = (name for name, one in METRICS.items() if plain in one.other_names.split())
    return nearest(next(ours, plain), known)


def metric(name: str, direction: Literal["maximize", "minimize"]) -> Callable[[Function], Function]:
    """Register a metric, computed for every part that a run measures, as `{part}/NAME`.

    The decorated function takes probabilities (N, K) float32 and targets (N,) int64 and returns a
    finite number.

    Raises:
        ConfigError: a metric has the name, it is none of Python, or there is no such direction.
    """
    if not name.isidentifier():
        raise ConfigError(f"metric {name!r} is no name of Python: letters, digits, _.")
    if direction not in ("maximize", "minimize"):
        raise ConfigError(f"metric {name}: direction is {direction!r}: maximize or minimize.")

    def register(function: Function) -> Function:
        known = _PLUGIN_METRICS.get(name)
        if name in METRICS and not (known and is_again(known, function)):
            raise ConfigError(f"metric {name}: there is one of that name already.")
        _PLUGIN_METRICS[name] = function
        METRICS[name] = Metric(
            higher_is_better=direction == "maximize", targets=TARGETS_OF_PICTURES
        )
        return function

    return register


def further_metrics(
    probs: Any, targets: Any, wanted: Container[str] | None = None
) -> dict[str, float]:
    """Return the metrics of the plugins by their plain names, or those of them that are wanted.

    Raises:
        ConfigError: one of them fails, or returns no finite number.
    """
    found = {}
    for name, function in _PLUGIN_METRICS.items():
        if wanted is not None and name not in wanted:
            continue
        try:
            found[name] = float(function(probs, targets))
        except Exception as error:
            raise ConfigError(
                f"metric {name} of {function.__module__} fails: {fault_text(error)}."
            ) from error
        if not math.isfinite(found[name]):
            raise ConfigError(f"metric {name} of {function.__module__} is {found[name]}.")
    return found
