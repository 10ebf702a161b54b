"""The metrics that runs are judged by, their names, and those that plugins add to every run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Sequence
from typing import Any, Literal, TypeVar

from ..machine.text import nearest
from .checks import ConfigError, is_again, setting
from .plugins import fault_text

__all__ = [
    "COST",
    "METRICS",
    "PRIMARY",
    "further_metrics",
    "key_of_metric",
    "metric",
    "metric_setting",
    "metrics_of",
    "monitored_metrics",
    "plain_metric",
    "ranking_metrics",
    "reported_metrics",
]

Function = TypeVar("Function", bound=Callable[..., float])

# Measured where there is a table of costs.
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
_NOT_RANKING = ("loss", "calibration_error")
# What metrics are called in scikit-learn, torchmetrics, Keras, fastai and papers.
_OTHER_NAMES = {
    "accuracy": "acc top1 top1_acc top1_accuracy exact_match subset_accuracy",
    "balanced_accuracy": "bacc balanced_acc mean_recall macro_recall recall_macro uar",
    "macro_f1": "f1 f1_macro f1_score f1score",
    "micro_f1": "f1_micro",
    "auc": "roc_auc auroc auc_roc rocauc roc_auc_ovr roc_auc_score roc",
    "log_loss": "nll logloss cross_entropy crossentropy ce neg_log_loss bce",
    "map": "ap mean_ap mean_average_precision average_precision pr_auc auprc",
    "kappa": "qwk quadratic_kappa quadratic_weighted_kappa cohen_kappa weighted_kappa",
    "mae": "mean_absolute_error neg_mean_absolute_error l1",
    "miou": "iou mean_iou jaccard jaccard_index",
    "dice": "dice_score dice_coefficient dsc",
    "pixel_accuracy": "pixel_acc",
    "hamming_loss": "hamming",
    "calibration_error": "ece expected_calibration_error",
    "cost": "mean_cost",
    "cost/latency_ms": "latency latency_ms speed",
    "cost/parameters": "parameters params num_parameters",
    "cost/flops": "flops macs operations",
    "cost/training_seconds": "training_seconds training_time",
}
_PLUGIN_METRICS: dict[str, Callable[..., float]] = {}


def metrics_of(target: str | None = None) -> list[str]:
    """Return those of `METRICS` that runs with this `data.target` measure; None for any."""
    return [name for name in METRICS if target in _TARGETS.get(name, {target}) or not target]


def monitored_metrics(target: str | None = None) -> list[str]:
    """Return those of `metrics_of` that `trainer.monitor` may be: all but costs of a model."""
    return [name for name in metrics_of(target) if name.startswith("val/")]


def reported_metrics(target: str, monitor: str) -> list[str]:
    """Return those of `monitored_metrics` that networks report after every epoch, the first first.

    Args:
        target: of the runs, as `data.target`.
        monitor: key of what they watch.
    """
    reported = (monitor, PRIMARY[target], "val/accuracy", "val/pixel_accuracy", "val/loss")
    known = monitored_metrics(target)
    return [name for name in dict.fromkeys(reported) if name in known]


def key_of_metric(name: str) -> str:
    """Return the key of a metric that is given by its plain name, or by its key."""
    return key if (key := f"val/{name}") in METRICS else name


def plain_metric(name: str) -> str:
    """Return the plain name of a metric that is given by it, or by its key."""
    return name.removeprefix("val/") if name in METRICS else name


def ranking_metrics() -> list[str]:
    """Return the plain names of the metrics by which predictions of finished runs are compared.

    Each picture has a score of it, as it has not of a calibration error or of a plugin's metric.
    """
    found = map(plain_metric, monitored_metrics())
    return [name for name in found if name not in (*_NOT_RANKING, *_PLUGIN_METRICS)]


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
    ours = (one for one, others in _OTHER_NAMES.items() if plain in others.split())
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
        if f"val/{name}" in METRICS and not (known and is_again(known, function)):
            raise ConfigError(f"metric {name}: there is one of that name already.")
        _PLUGIN_METRICS[name] = function
        METRICS[f"val/{name}"] = direction
        _TARGETS[f"val/{name}"] = _TARGETS_OF_PICTURES
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
