from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from src.records.export import ExportRecord, VariantRecord


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = [
        VariantRecord("pytorch", 2.8, 0.0, 1.0, 0.9, {1: 4.0}, {1: (1.0, 1.0, 1.0)}, 0.71),
        VariantRecord("onnx", 2.8, float("inf"), 0.0, 0.1, {1: 1.0}, {1: (4.0, 3.5, 4.5)}, 0.2),
    ]
    record = ExportRecord(tuple(rows), "miou", {"int8": "no"}, "val", 60, 2, 0.999, None, "onnx")
    file = tmp_path / "export.json"
    assert ExportRecord.read(file) is None
    file.write_text(record.text())
    assert ExportRecord.read(file) == record and record.of_masks
    older = json.loads(record.text())
    del older["metric"]
    for variant in older["variants"]:
        variant["miou"] = variant.pop("figure")
    file.write_text(json.dumps(older))
    assert ExportRecord.read(file) == record
    for variant in older["variants"]:
        del variant["miou"]
    file.write_text(json.dumps(older))
    read = ExportRecord.read(file)
    assert read is not None and read.metric == "accuracy"
    assert [one.figure for one in read.variants] == [0.9, 0.1]
    file.write_text('{"chosen": null}')
    assert ExportRecord.read(file) is None


def test_the_file_is_json_even_if_a_difference_is_infinite() -> None:
    infinite = VariantRecord(
        "onnx", 2.8, float("inf"), 0.0, 0.1, {1: 1.0, 64: 32.0}, {1: (1, 1, 1)}, None
    )
    record = ExportRecord((infinite,), "kappa", {}, "val", 6000, 2, 0.999, None, "onnx")
    plain = json.loads(record.text())
    assert plain["variants"][0]["largest_difference"] is None
    assert plain["variants"][0]["milliseconds"] == {"1": 1.0, "64": 32.0}
    assert plain["chosen"] == "onnx"


def test_a_variant_that_loses_a_rare_class_does_not_agree() -> None:
    original, variant = (
        VariantRecord(name, 2.8, 0.1, equal, 0.9, {1: 1.0}, {1: (1, 1, 1)}, miou)
        for name, equal, miou in (("pytorch", 1.0, 0.75), ("int8", 0.9995, 0.5))
    )
    assert original.agreement(original, masks=True) == 1.0
    assert variant.agreement(original, masks=True) == 0.75
    assert replace(variant, figure=0.7499).agreement(original, masks=True) == 0.9995
    assert replace(variant, figure=1.0).agreement(original, masks=True) == 0.75
    assert replace(variant, figure=None).agreement(original, masks=True) == 0.9995
    assert variant.agreement(original, masks=False) == 0.9995
