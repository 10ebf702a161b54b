from __future__ import annotations

import dataclasses
import json
import re

from src.records.export import ExportRecord, VariantRecord
from src.reporting.export_table import format_export

EAGER = VariantRecord(
    "pytorch", 2.81, 0.0, 1.0, 0.9312, {1: 1.0, 64: 32.0}, {1: (1, 1, 1), 64: (1, 1, 1)}
)
ONNX = VariantRecord(
    "onnx", 2.77, 1.91e-6, 1.0, 0.9312, {1: 0.25, 64: 16.0}, {1: (4, 3.5, 4.2), 64: (2, 1.9, 2.1)}
)
RECORD = ExportRecord(
    variants=(EAGER, ONNX),
    missing={"int8": "onnxruntime has no 8-bit kernel for LSTM layers"},
    part="val",
    pictures=6000,
    threads=2,
    least_equal=0.999,
    recommended="onnx",
    chosen="onnx",
)


def test_all_that_a_person_needs_to_choose() -> None:
    lines = format_export(RECORD, "a-run", "mlflow models serve").splitlines()
    assert lines[0] == "a-run on 6,000 validation pictures, 2 threads"
    assert lines[1].split()[0] == "variant" and "64 pictures" in lines[1]
    cells = ["onnx", "2.8 MB", "0.25 ms", "4.00 (3.50 to 4.20)", "16 ms", "2.00 (1.90 to 2.10)"]
    assert re.split("  +", lines[3].strip()) == [*cells, "1.9e-06", "100.00 %", "93.12 %"]
    assert lines[4:] == [
        "",
        "int8 cannot be had: onnxruntime has no 8-bit kernel for LSTM layers",
        "recommended: onnx, the fastest with at least 99.9 % equal labels",
        "predict with it: python -m src.predict run=a-run variant=onnx images=...",
        "serve it: mlflow models serve",
    ]


def test_where_the_run_is_best_left_alone() -> None:
    left = dataclasses.replace(RECORD, recommended=None, chosen=None)
    text = format_export(left, "a-run", None)
    assert text.splitlines()[-1] == (
        "recommended: the run as it is, no variant with at least 99.9 % equal labels is faster"
    )
    asked = format_export(dataclasses.replace(left, chosen="onnx"), "a-run", None)
    assert "is faster; chosen: onnx" in asked and "variant=onnx" in asked
    refused = dataclasses.replace(RECORD, chosen=None)
    assert "chosen: the run as it is" in format_export(refused, "a-run", None)


def test_the_file_is_json_whatever_overflowed() -> None:
    broken = dataclasses.replace(ONNX, largest_difference=float("inf"), equal_labels=0.0)
    text = dataclasses.replace(RECORD, variants=(EAGER, broken)).text()
    plain = json.loads(text)
    assert plain["variants"][1]["largest_difference"] is None
    assert plain["variants"][0]["milliseconds"] == {"1": 1.0, "64": 32.0}
    assert plain["chosen"] == "onnx"
