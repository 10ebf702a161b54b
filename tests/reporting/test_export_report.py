"""What a person reads of the exported variants of a network."""

from __future__ import annotations

import dataclasses
import re

import pytest

from src.records.export import ExportRecord, VariantRecord
from src.reporting.export_report import format_export, with_exported
from src.reporting.model_card import model_card
from tests.reporting.test_model_card import facts

EAGER = VariantRecord(
    "pytorch", 2.81, 0.0, 1.0, 0.9312, {1: 1.0, 64: 32.0}, {1: (1, 1, 1), 64: (1, 1, 1)}, 0.9312
)
ONNX = VariantRecord(
    "onnx",
    2.77,
    1.91e-6,
    1.0,
    0.9312,
    {1: 0.25, 64: 16.0},
    {1: (4, 3.5, 4.2), 64: (2, 1.9, 2.1)},
    0.9312,
)
EXPORT = ExportRecord(
    variants=(EAGER, ONNX),
    metric="accuracy",
    missing={"int8": "onnxruntime has no 8-bit kernel for LSTM layers"},
    part="val",
    pictures=6000,
    threads=2,
    least_equal=0.999,
    recommended="onnx",
    chosen="onnx",
)
_LABEL = "python -m src.predict run=a-run variant=onnx"


def test_all_that_a_person_needs_to_choose() -> None:
    lines = format_export(EXPORT, "a-run", _LABEL, "mlflow models serve").splitlines()
    assert lines[0] == "a-run on 6,000 validation pictures, 2 threads"
    assert lines[1].split()[0] == "variant" and "64 pictures" in lines[1]
    cells = ["onnx", "2.8 MB", "0.25 ms", "4.00 (3.50 to 4.20)", "16 ms", "2.00 (1.90 to 2.10)"]
    assert re.split("  +", lines[3].strip()) == [*cells, "1.9e-06", "100.00 %", "93.1 % (+0.00)"]
    assert lines[4:] == [
        "",
        "int8 is not available: onnxruntime has no 8-bit kernel for LSTM layers",
        "recommended: onnx, the fastest with at least 99.9 % equal labels "
        "(95 % interval of all pictures: 99.94 to 100.00)",
        "predict with it: python -m src.predict run=a-run variant=onnx",
        "serve it: mlflow models serve",
    ]


def test_where_the_run_is_best_left_alone() -> None:
    left = dataclasses.replace(EXPORT, recommended=None, chosen=None)
    text = format_export(left, "a-run", _LABEL, None)
    assert text.splitlines()[-1] == (
        "recommended: the run as it is, no variant with at least 99.9 % equal labels is faster"
    )
    asked = format_export(dataclasses.replace(left, chosen="onnx"), "a-run", _LABEL, None)
    assert "is faster; chosen: onnx" in asked and "variant=onnx" in asked
    refused = dataclasses.replace(EXPORT, chosen=None)
    assert "chosen: the run as it is" in format_export(refused, "a-run", _LABEL, None)


MASKS = dataclasses.replace(
    EXPORT,
    variants=(
        dataclasses.replace(EAGER, figure=0.7123),
        dataclasses.replace(ONNX, figure=0.7101, equal_labels=0.9954),
    ),
    metric="miou",
    recommended=None,
    chosen="onnx",
)


def test_masks_are_compared_by_pixels_and_by_mean_iou() -> None:
    lines = format_export(MASKS, "a-run", _LABEL, None).splitlines()
    assert re.split("  +", lines[1])[-2:] == ["equal pixels", "mean IoU"]
    assert re.split("  +", lines[3].strip())[-2:] == ["99.54 %", "71.0 % (-0.22)"]
    assert lines[6] == (
        "recommended: the run as it is, no variant with at least 99.9 % equal pixels and a mean "
        "IoU within 0.1 points is faster; chosen: onnx"
    )


@pytest.mark.parametrize(
    ("metric", "header", "figure", "change", "shown"),
    [
        ("kappa", "quadratic kappa", 0.5, -0.012, "0.488 (-0.0120)"),
        ("kappa", "quadratic kappa", 0.0001, -0.0002, "0.000 (-0.0002)"),
        ("map", "mean average precision", 0.75, 0.001, "75.1 % (+0.10)"),
        ("map", "mean average precision", 0.75, -0.00001, "75.0 % (+0.00)"),
        ("log_loss", "log-loss", 0.5, 0.25, "0.7500 (+0.250)"),
        ("log_loss", "log-loss", 0.0, -0.0, "0 (+0)"),
    ],
)
def test_the_figure_is_by_the_metric_that_judges_the_run(
    metric: str, header: str, figure: float, change: float, shown: str
) -> None:
    variants = (
        dataclasses.replace(EAGER, figure=figure),
        dataclasses.replace(ONNX, figure=figure + change),
        dataclasses.replace(ONNX, name="int8", figure=None),
    )
    record = dataclasses.replace(EXPORT, variants=variants, metric=metric)
    lines = format_export(record, "a-run", _LABEL, None).splitlines()
    last = [re.split("  +", line.strip())[-1] for line in lines[1:5]]
    assert last[0] == header and last[2:] == [shown, "none"] and "(" not in last[1]


def test_a_card_has_the_variants_of_the_latest_export_once() -> None:
    plain = model_card(facts())
    added = with_exported(plain, EXPORT)
    assert added == model_card(facts(exported=EXPORT))
    assert with_exported(added, MASKS) == model_card(facts(exported=MASKS)) != added
    assert "\n- int8 is not available: onnxruntime has no 8-bit kernel for LSTM layers.\n" in added
    assert "### Variants on 6,000 validation pictures, 2 threads" in added
    assert "71.0 % (-0.22)" in with_exported("notes of my own\n", MASKS)
