from __future__ import annotations

import json

from src.records.export import ExportRecord, VariantRecord


def test_the_file_is_json_even_if_a_difference_is_infinite() -> None:
    infinite = VariantRecord(
        "onnx", 2.8, float("inf"), 0.0, 0.1, {1: 1.0, 64: 32.0}, {1: (1, 1, 1)}
    )
    record = ExportRecord((infinite,), {}, "val", 6000, 2, 0.999, None, "onnx")
    plain = json.loads(record.text())
    assert plain["variants"][0]["largest_difference"] is None
    assert plain["variants"][0]["milliseconds"] == {"1": 1.0, "64": 32.0}
    assert plain["chosen"] == "onnx"
