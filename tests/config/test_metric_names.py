"""Names of metrics: the same ones are taken, and meant, wherever a command takes one."""

from __future__ import annotations

from typing import Any

import pytest

from src.config.checks import ConfigError, Settings, options_of
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import CompareSettings, ScalingSettings, SelectSettings
from src.config.metrics import (
    key_of_metric,
    metrics_of,
    monitored_metrics,
    plain_metric,
    ranking_metrics,
)
from src.config.sweep import SweepSettings, read_sweep_settings
from src.config.training import TrainerSettings
from src.targets import KINDS

RANKING = {
    "compare": (CompareSettings, []),
    "select": (SelectSettings, []),
    "scaling": (ScalingSettings, ["run=x"]),
}
OTHER_NAMES = {
    **{"acc": "accuracy", "top1": "accuracy", "val_acc": "accuracy", "F1": "macro_f1"},
    **{"roc_auc": "auc", "AUROC": "auc", "nll": "log_loss", "qwk": "kappa", "mAP": "map"},
    **{"iou": "miou", "mean IoU": "miou", "f1-macro": "macro_f1", "val/bacc": "balanced_accuracy"},
    **{"quadratic kappa": "kappa", "mean absolute error": "mae", "macro F1": "macro_f1"},
    "balanced_acuracy": "balanced_accuracy",
}


def metric_in(place: str, name: str) -> Any:
    """The metric as the settings of a command have it; raises their error."""
    if place == "monitor":
        return read_run_settings(["data.target=" + _target(name), f"trainer.monitor='{name}'"])
    if place == "sweep":
        return read_sweep_settings(["data.target=" + _target(name), f"metric='{name}'"], "default")
    cls, given = RANKING[place]
    return compose_settings(cls, [*given, f"metric='{name}'"])


def _target(name: str) -> str:
    fitting = (kind for kind in KINDS if key_of_metric(name) in metrics_of(kind))
    return next(fitting, "single")


@pytest.mark.parametrize("place", [*RANKING, "monitor", "sweep"])
def test_a_metric_is_named_plainly_or_by_its_key(place: str) -> None:
    names = {
        "monitor": list(map(plain_metric, monitored_metrics())),
        "sweep": list(map(plain_metric, metrics_of())),
    }.get(place, ranking_metrics())
    for name in [one for one in names if one not in ("cost", "miou", "dice", "pixel_accuracy")]:
        both = [metric_in(place, one) for one in (name, key_of_metric(name))]
        shown = [getattr(one, "metrics", None) for one in both]
        assert (shown[0] and shown[0] == shown[1]) or both[0] == both[1]


@pytest.mark.parametrize(("name", "ours"), OTHER_NAMES.items())
@pytest.mark.parametrize("place", [*RANKING, "monitor", "sweep"])
def test_the_names_of_other_tools_are_understood(place: str, name: str, ours: str) -> None:
    with pytest.raises(ConfigError, match=rf"it must be one of .*\(did you mean {ours}\?\)\.$"):
        metric_in(place, name)


@pytest.mark.parametrize("name", ["", "[]", "[accuracy,acuracy]"])
def test_a_sweep_needs_metrics_that_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match="metric"):
        read_sweep_settings([f"metric={name}"], "default")


@pytest.mark.parametrize(
    ("cls", "key", "some"),
    [
        (CompareSettings, "metric", {"auc", "cost", "miou"}),
        (ScalingSettings, "metric", {"auc", "miou"}),
        (SweepSettings, "metric", {"auto", "auc", "cost/latency_ms"}),
        (TrainerSettings, "monitor", {"auto", "auc", "loss"}),
    ],
)
def test_help_and_completion_name_them(cls: type[Settings], key: str, some: set[str]) -> None:
    assert some <= set(options_of(cls, key))
