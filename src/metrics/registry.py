"""The metrics that there are: names, direction, kinds of targets and unit of each, stated once.

A metric of this project is a row of `METRICS`, a function of this room, and a figure and scores of
the kinds of targets in `src.targets`. `src.config.metrics` adds those of plugins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "PRIMARY", "RANKING", "TARGETS_OF_PICTURES", "Metric", "metric_of", "unit_of"]

# What runs are judged by unless another metric is asked for, by `data.target`.
PRIMARY = {"single": "accuracy", "multi": "map", "ordinal": "kappa", "dense": "miou"}
# Kinds of targets that have probabilities (N, K); of pixels there are counts alone.
TARGETS_OF_PICTURES = frozenset({"single", "multi", "ordinal"})


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a model.

    Attributes:
        higher_is_better: as of all but losses, errors and costs.
        targets: kinds of targets that it is measured of.
        ranks: whether each picture has a score of it, by which finished runs are compared.
        least: the least figure that there can be; the best is 1 where higher is better, else 0.
        over_classes: whether it is a mean over classes, each with as much weight as any other.
        unit: "percent" of figures in [0, 1] that are written so, "hundredths" of those that end at
            1 too, but are never written in percent, and get three digits.
        title: what readers see; "" for the name with spaces.
        other_names: in scikit-learn, torchmetrics, Keras, fastai and papers, separated by spaces.
        hub: its name on the Hugging Face hub; "" where its figures are not stated there.
    """

    higher_is_better: bool
    targets: frozenset[str] = frozenset(PRIMARY)
    ranks: bool = False
    least: float = 0.0
    over_classes: bool = False
    unit: Literal["", "percent", "hundredths"] = ""
    title: str = ""
    other_names: str = ""
    hub: str = ""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest figure that there can be."""
        return self.least, 1.0 if self.higher_is_better else math.inf

    @property
    def worst(self) -> float | None:
        """The worst figure that there can be, where the best is 1; None of losses, without end."""
        return self.least if self.higher_is_better else None


# What trainings, studies and finished runs may be judged by: plain names of the validation part,
# "cost/..." of a model. Only validation: the test part is not used in a search.
METRICS = {
    "accuracy": Metric(
        higher_is_better=True,
        targets=TARGETS_OF_PICTURES,
        ranks=True,
        unit="percent",
        other_names="acc top1 top1_acc top1_accuracy exact_match subset_accuracy",
        hub="accuracy",
    ),
    "map": Metric(
        higher_is_better=True,
        targets=frozenset({"multi"}),
        ranks=True,
        over_classes=True,
        unit="percent",
        title="mean average precision",
        other_names="ap mean_ap mean_average_precision average_precision pr_auc auprc",
        hub="map",
    ),
    "kappa": Metric(
        higher_is_better=True,
        targets=frozenset({"ordinal"}),
        ranks=True,
        least=-1.0,
        unit="hundredths",
        title="quadratic kappa",
        other_names="qwk quadratic_kappa quadratic_weighted_kappa cohen_kappa weighted_kappa",
        hub="cohen_kappa",
    ),
    "miou": Metric(
        higher_is_better=True,
        targets=frozenset({"dense"}),
        ranks=True,
        over_classes=True,
        unit="percent",
        title="mean IoU",
        other_names="iou mean_iou jaccard jaccard_index",
        hub="mean_iou",
    ),
    "dice": Metric(
        higher_is_better=True,
        targets=frozenset({"dense"}),
        ranks=True,
        over_classes=True,
        unit="percent",
        title="Dice",
        other_names="dice_score dice_coefficient dsc",
    ),
    "pixel_accuracy": Metric(
        higher_is_better=True,
        targets=frozenset({"dense"}),
        ranks=True,
        unit="percent",
        other_names="pixel_acc",
    ),
    "macro_f1": Metric(
        higher_is_better=True,
        targets=TARGETS_OF_PICTURES,
        ranks=True,
        over_classes=True,
        unit="percent",
        title="macro F1",
        other_names="f1 f1_macro f1_score f1score",
        hub="f1",
    ),
    "balanced_accuracy": Metric(
        higher_is_better=True,
        targets=frozenset({"single", "ordinal"}),
        ranks=True,
        over_classes=True,
        unit="percent",
        other_names="bacc balanced_acc mean_recall macro_recall recall_macro uar",
        hub="balanced_accuracy",
    ),
    "auc": Metric(
        higher_is_better=True,
        targets=TARGETS_OF_PICTURES,
        ranks=True,
        over_classes=True,
        unit="hundredths",
        title="AUC",
        other_names="roc_auc auroc auc_roc rocauc roc_auc_ovr roc_auc_score roc",
        hub="roc_auc",
    ),
    "micro_f1": Metric(
        higher_is_better=True,
        targets=frozenset({"multi"}),
        ranks=True,
        unit="percent",
        title="micro F1",
        other_names="f1_micro",
        hub="f1",
    ),
    "hamming_loss": Metric(
        higher_is_better=False,
        targets=frozenset({"multi"}),
        ranks=True,
        unit="percent",
        title="Hamming loss",
        other_names="hamming",
    ),
    "mae": Metric(
        higher_is_better=False,
        targets=frozenset({"ordinal"}),
        ranks=True,
        title="mean absolute error",
        other_names="mean_absolute_error neg_mean_absolute_error l1",
        hub="mae",
    ),
    # Measured where there is a table of costs.
    "cost": Metric(
        higher_is_better=False,
        targets=frozenset({"single", "ordinal"}),
        ranks=True,
        title="mean cost",
        other_names="mean_cost",
    ),
    "loss": Metric(higher_is_better=False),
    "log_loss": Metric(
        higher_is_better=False,
        ranks=True,
        title="log-loss",
        other_names="nll logloss cross_entropy crossentropy ce neg_log_loss bce",
    ),
    "calibration_error": Metric(
        higher_is_better=False,
        targets=TARGETS_OF_PICTURES,
        unit="percent",
        other_names="ece expected_calibration_error",
    ),
    "cost/parameters": Metric(
        higher_is_better=False, other_names="parameters params num_parameters"
    ),
    "cost/flops": Metric(
        higher_is_better=False, title="operations", other_names="flops macs operations"
    ),
    "cost/latency_ms": Metric(
        higher_is_better=False, title="latency", other_names="latency latency_ms speed"
    ),
    "cost/training_seconds": Metric(
        higher_is_better=False,
        title="training time",
        other_names="training_seconds training_time",
    ),
}
# Those by which finished runs are compared; a metric of a plugin has no score of a picture.
RANKING = {name: one for name, one in METRICS.items() if one.ranks}
# What is shown of a run, but judges none.
_SHOWN = {
    "brier": Metric(higher_is_better=False, title="Brier score"),
    "top5_accuracy": Metric(higher_is_better=True, unit="percent", title="top-5 accuracy"),
    "cost/checkpoint_mb": Metric(higher_is_better=False, title="size on disk"),
    "cost/peak_memory_mb": Metric(higher_is_better=False, title="most memory"),
}


def metric_of(name: str) -> Metric | None:
    """Return the metric of a plain name or of "cost/..."; None of what has no row here."""
    return METRICS.get(name) or _SHOWN.get(name)


def unit_of(name: str) -> str:
    """Return the `unit` of a metric by its plain name; "" of what has no row here."""
    found = metric_of(name)
    return "" if found is None else found.unit
