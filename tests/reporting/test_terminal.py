from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from src.metrics.summary import safe_class_names
from src.models.weights import PublishedWeights
from src.records.combination import Combination
from src.reporting.terminal import (
    format_combination,
    format_metrics,
    format_summary,
    format_weights,
)
from tests.records import summaries

SUMMARY = dataclasses.replace(
    summaries.SUMMARY,
    metrics={
        "val/accuracy": 0.98611,
        "val/accuracy_low": 0.968,
        "val/accuracy_high": 0.994,
        "test/accuracy": 0.98333,
        "test/accuracy_low": 0.964,
        "test/accuracy_high": 0.9923,
        "test/auc": 0.989,
        "test/auc_low": 0.97,
        "test/auc_high": 0.998,
        "cost/latency_ms": 1.3344,
    },
    num_parameters=1_234_567,
    duration_seconds=24.3,
)


def test_everything_a_finished_run_has_to_say() -> None:
    assert format_summary(SUMMARY, "make ui").splitlines() == [
        "calm-otter: cnn on digits, seed 1, finished in 24 s",
        "",
        "  validation accuracy  98.6 %  (95 % interval 96.8 to 99.4)",
        "  test accuracy        98.3 %  (95 % interval 96.4 to 99.2)",
        "  test AUC             0.989  (95 % interval 0.970 to 0.998)",
        "  test part measured   3 times on this split",
        "  parameters           1.2 M",
        "  latency              1.33 ms for one picture",
        "  run folder           /runs/calm-otter",
        "  open the UI          make ui",
    ]


def test_figures_of_classes_have_the_names_of_the_classes() -> None:
    names = ("Hemden & Blusen", "靴 (くつ)", "a/b", "x" * 60, "two\nlines")
    metrics = {"val/accuracy": 0.5, "val/accuracy_low": 0.4, "val/accuracy_high": 0.6}
    metrics |= {
        f"val/recall/{safe}": number / 10 for number, safe in enumerate(safe_class_names(names))
    }
    assert format_metrics(metrics, "val", names).splitlines() == [
        "accuracy                   50.0 %  (95 % interval 40.0 to 60.0)",
        "recall of Hemden & Blusen  0.0 %",
        "recall of 靴 (くつ)        10.0 %",
        "recall of a/b              20.0 %",
        f"recall of {'x' * 60}  30.0 %",
        "recall of two\\nlines       40.0 %",
    ]


def test_the_summary_says_where_it_measures_otherwise_than_the_epochs() -> None:
    lines = format_summary(SUMMARY, "make ui", "two views").splitlines()
    assert lines[5] == "  measured with        two views"
    assert len(lines) == len(format_summary(SUMMARY, "make ui").splitlines()) + 1


def test_what_was_not_measured_has_no_line() -> None:
    bare = dataclasses.replace(
        SUMMARY,
        status="FAILED",
        metrics={},
        num_parameters=None,
        test_measurements=None,
        reason="the loss became NaN in epoch 2",
    )
    stopped = format_summary(dataclasses.replace(SUMMARY, status="KILLED"), "make ui")
    assert stopped.splitlines()[0].endswith("stopped after 24 s")
    assert format_summary(bare, "make ui").splitlines() == [
        "calm-otter: cnn on digits, seed 1, failed after 24 s",
        "",
        "  reason       the loss became NaN in epoch 2",
        "  run folder   /runs/calm-otter",
        "  open the UI  make ui",
    ]


def test_a_cross_validation_shows_the_spread_of_its_folds() -> None:
    metrics = SUMMARY.metrics | {"val/accuracy_sd": 0.0123}
    folds = {"val/accuracy": [0.91, 0.95, 0.934]}
    whole = dataclasses.replace(SUMMARY, metrics=metrics, folds=folds)
    shown = format_summary(whole, "make ui")
    assert "over folds" in shown
    assert "3 folds, 91.0 to 95.0 %, standard deviation 1.2 points" in shown
    assert "over folds" not in format_summary(SUMMARY, "make ui")


def test_the_spread_of_folds_is_of_what_the_run_is_judged_by() -> None:
    metrics = SUMMARY.metrics | {"val/accuracy_sd": 0.0123, "val/kappa_sd": 0.0456}
    folds = {"val/accuracy": [0.91, 0.95, 0.934], "val/kappa": [0.41, 0.5, 0.46]}
    shown = format_summary(dataclasses.replace(SUMMARY, metrics=metrics, folds=folds), "make ui")
    assert "3 folds, quadratic kappa 0.410 to 0.500, standard deviation 0.046" in shown


LITE, OLD, DINO = (
    dataclasses.asdict(PublishedWeights(*fields, Path("file")))
    for fields in (
        ("timm", "tf_efficientnet_lite0", "package", 224, 4_652_008, "apache-2.0", 75.1),
        ("torchvision", "resnet18", "torch cache", None, 11_689_512, None, None),
        (
            *("timm", "vit_small_patch16_dinov3.lvd1689m", "hugging face cache"),
            *(256, 21_586_944, "dinov3-license", None),
        ),
    )
)


def test_a_row_for_each_network() -> None:
    lines = format_weights([LITE, OLD, DINO], 100).splitlines()
    assert re.split("  +", lines[2].strip()) == [
        *("timm", "tf_efficientnet_lite0", "package", "224", "4.7 M", "75.1 %", "apache-2.0")
    ]
    assert re.split("  +", lines[3].strip()) == [
        *("torchvision", "resnet18", "torch cache", "-", "11.7 M", "-", "-")
    ]
    # Names are whole, since they are to be typed; the licence gives way.
    assert DINO["name"] in lines[4] and "hub cache" in lines[4] and "dinov3-lic" in lines[4]
    assert max(map(len, lines)) <= 100


def test_how_they_are_named_on_a_command_line() -> None:
    text = format_weights([LITE, OLD], 100)
    assert "model=timm model.name=tf_efficientnet_lite0 model.pretrained=true" in text
    assert "model=embedding model.networks=[tf_efficientnet_lite0" in text
    alone = format_weights([OLD], 100)
    assert "model=torchvision model.name=resnet18 model.pretrained=true" in alone
    assert "model=embedding" not in alone  # which takes networks of timm


def test_nothing_to_load() -> None:
    text = format_weights([], 100)
    assert text.startswith("This machine can load no pretrained network") and "NAME" in text


@pytest.mark.parametrize(
    ("way", "gain", "p_value", "said"),
    [
        ("greedy", 0.05, 0.01, "the best single model 90.0 % (+5.0 points"),
        ("stacking", -0.05, 0.01, "the best single model 90.0 % (-5.0 points"),
        ("soup", 0.05, 0.01, "It is one network, and takes as long as one of them: 3 ms"),
    ],
)
def test_a_combination_with_its_gain_and_its_latency(
    way: Literal["greedy", "stacking", "soup"], gain: float, p_value: float, said: str
) -> None:
    found = Combination(
        way=way,
        members=("a", "b", "c"),
        weights=np.array([0.25, 0.0, 0.75]),
        probs=np.zeros((0, 2), np.float32),
        measure="accuracy",
        figure=0.9 + gain,
        log_loss=0.1,
        best="c",
        best_figure=0.9,
        p_value=p_value,
    )
    text = format_combination(found, [0.8, 0.7, 0.9], [1.0, 2.0, 3.0])
    rows = [line.split() for line in text.splitlines()[2:4]]
    assert rows == [["0.750", "90.0", "%", "3", "c"], ["0.250", "80.0", "%", "1", "a"]]
    assert said in text and "of 2 of 3 trained models" in text
    assert (way == "soup") == ("mean of the weights" in text)
    assert way == "soup" or "its members 4 ms, one after another; the best alone takes 3 ms" in text
    kappas = dataclasses.replace(found, measure="kappa")
    text = format_combination(kappas, [0.8, 0.7, 0.9], [1.0, 2.0, 3.0])
    assert f"has quadratic kappa {0.9 + gain:.3f} " in text
    assert f"({gain:+.3f}; Student's test" in text
