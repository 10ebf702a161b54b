from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.records.run import Predictions, RunSummary
from tests.records.summaries import SUMMARY


def predictions(count: int, num_classes: int, *, with_paths: bool = True) -> Predictions:
    rng = np.random.default_rng(count)
    return Predictions(
        sample_ids=rng.permutation(count),
        paths=tuple(f"ordner/图片 {i}.png" for i in range(count)) if with_paths else None,
        targets=rng.integers(0, num_classes, count),
        probs=rng.dirichlet(np.ones(num_classes), count).astype(np.float32),
        class_names=tuple(f"class {i}" for i in range(num_classes)),
    )


def assert_same(left: Predictions, right: Predictions) -> None:
    for field in dataclasses.fields(Predictions):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


@pytest.mark.parametrize(
    ("count", "num_classes", "with_paths"),
    [(7, 3, True), (7, 3, False), (1, 2, True), (300, 200, True), (300, 200, False), (0, 3, False)],
)
def test_predictions_come_back_as_written(
    tmp_path: Path, count: int, num_classes: int, with_paths: bool
) -> None:
    written = predictions(count, num_classes, with_paths=with_paths)
    path = tmp_path / "seed=1,2" / "val.parquet"
    written.write(path)
    assert_same(written, Predictions.read(path))
    assert os.listdir(path.parent) == ["val.parquet"]


def test_groups_come_back_and_must_be_as_many_as_pictures(tmp_path: Path) -> None:
    plain = predictions(7, 3)
    grouped = dataclasses.replace(plain, groups=np.array([0, 0, 1, 2, 2, 2, 9]))
    grouped.write(tmp_path / "p.parquet")
    assert_same(grouped, Predictions.read(tmp_path / "p.parquet", with_paths=True))
    for copies in (True, False):
        dataclasses.replace(grouped, copies=copies).write(tmp_path / "c.parquet")
        assert Predictions.read(tmp_path / "c.parquet").copies == copies
    with pytest.raises(ValueError, match=r"groups has shape \(2,\)"):
        dataclasses.replace(plain, groups=np.array([0, 1]))


def test_labels_come_back_as_they_were_predicted(tmp_path: Path) -> None:
    sets = np.array([[0, 1, 1], [0, 0, 0]], np.uint8)
    written = Predictions(
        sample_ids=np.arange(2),
        paths=None,
        targets=1 - sets,
        probs=np.full((2, 3), 0.4, np.float32),
        class_names=("a", "b", "c"),
        kind="multi",
        thresholds=np.array([0.3, 0.5, 0.4]),
    )
    np.testing.assert_array_equal(written.decided, [[1, 0, 1]] * 2)
    by_others = dataclasses.replace(written, preds=sets)
    by_others.write(tmp_path / "p.parquet")
    assert_same(by_others, Predictions.read(tmp_path / "p.parquet"))
    with pytest.raises(ValueError, match=r"preds has shape \(2,\)"):
        dataclasses.replace(written, preds=sets[:, 0])


@pytest.mark.parametrize(
    ("kind", "thresholds", "wrong"),
    [
        ("ordinal", [0.4, 1.7], 4),
        ("ordinal", [0.5], 4),
        ("ordinal", [0.2, 0.3, 0.5], 4),
        ("single", [0.2, 0.3, 0.5], 2),
    ],
)
def test_a_class_comes_back_as_it_was_answered(
    kind: str, thresholds: list[float], wrong: int, tmp_path: Path
) -> None:
    written = dataclasses.replace(predictions(5, 3), kind=kind)
    assert written.decided.tolist() == written.probs.argmax(axis=1).tolist()
    others = (written.decided + 1) % 3
    by_cuts = dataclasses.replace(written, preds=others, thresholds=np.array(thresholds))
    by_cuts.write(tmp_path / "p.parquet")
    assert_same(by_cuts, again := Predictions.read(tmp_path / "p.parquet"))
    assert again.decided.tolist() == others.tolist()
    # As of a repeat of a cross-validation, each fold of which has thresholds of its own.
    by_folds = dataclasses.replace(by_cuts, thresholds=None)
    by_folds.write(tmp_path / "p.parquet")
    assert_same(by_folds, again := Predictions.read(tmp_path / "p.parquet"))
    assert again.decided.tolist() == others.tolist()
    with pytest.raises(ValueError, match=rf"thresholds has shape \({wrong},\)"):
        dataclasses.replace(written, thresholds=np.zeros(wrong))


def test_other_readers_find_a_table_that_explains_itself(tmp_path: Path) -> None:
    Predictions(
        sample_ids=np.array([4, 2]),
        paths=("a.png", "b.png"),
        targets=np.array([1, 0]),
        probs=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
        class_names=("cat", "dog"),
    ).write(tmp_path / "p.parquet")
    names = ("index", "path", "target", "target_name", "prediction", "prediction_name")
    rows = (
        (4, "a.png", 1, "dog", 0, "cat", [0.75, 0.25]),
        (2, "b.png", 0, "cat", 0, "cat", [0.5, 0.5]),
    )
    assert pq.read_table(tmp_path / "p.parquet").to_pylist() == [
        dict(zip((*names, "probabilities"), row, strict=True)) for row in rows
    ]


def test_lists_without_a_fixed_length_are_read(tmp_path: Path) -> None:
    """As other tools write them."""
    written = predictions(5, 3)
    written.write(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    position = table.schema.get_field_index("probabilities")
    lists = pa.array(table["probabilities"].to_pylist(), pa.large_list(pa.float64()))
    pq.write_table(table.set_column(position, "probabilities", lists), tmp_path / "q.parquet")
    assert_same(written, Predictions.read(tmp_path / "q.parquet"))


@pytest.mark.parametrize("column", ["index", "path", "target", "probabilities"])
def test_a_table_without_a_column_is_refused(tmp_path: Path, column: str) -> None:
    predictions(5, 3).write(tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet").drop_columns([column])
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(ValueError, match="no predictions of a run"):
        Predictions.read(tmp_path / "p.parquet")


def test_a_path_that_is_no_utf8_is_escaped(tmp_path: Path) -> None:
    path = os.fsdecode(b"caf\xe9.png")
    written = dataclasses.replace(predictions(1, 2), paths=(path,))
    written.write(tmp_path / "p.parquet")
    assert Predictions.read(tmp_path / "p.parquet").paths == ("caf\\udce9.png",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probs": np.ones((3, 2), np.float32)}, r"probs has shape \(3, 2\): it must be \(2, 2\)"),
        ({"targets": np.array([0])}, r"targets has shape \(1,\)"),
        ({"targets": np.array([0, 2])}, "targets must stay within 0 and 1"),
        ({"targets": np.array([-1, 0])}, "targets must stay within 0 and 1"),
        ({"paths": ("a",)}, "1 paths for 2 samples"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(predictions(2, 2), **change)


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1" + bytes(100) + b"PAR1"])
def test_rubbish_holds_no_predictions(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"p\.parquet holds no predictions of a run"):
        Predictions.read(tmp_path / "p.parquet")


def test_a_cut_file_is_refused_plainly(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    predictions(5, 3).write(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="no predictions of a run"):
            Predictions.read(path)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Predictions.read(tmp_path / "p.parquet")
    with pytest.raises(FileNotFoundError):
        RunSummary.read(tmp_path / "summary.json")


def test_a_summary_comes_back_as_written(tmp_path: Path) -> None:
    SUMMARY.write(tmp_path / "summary.json")
    assert RunSummary.read(tmp_path / "summary.json") == SUMMARY
    plain = json.loads((tmp_path / "summary.json").read_text())
    assert list(plain) == [field.name for field in dataclasses.fields(RunSummary)]
    assert os.listdir(tmp_path) == ["summary.json"]


@given(st.dictionaries(st.text(), st.floats()), st.text())
@settings(deadline=None)
def test_any_metrics_and_texts_make_strict_json(
    tmp_path_factory: pytest.TempPathFactory, metrics: dict[str, float], text: str
) -> None:
    path = tmp_path_factory.mktemp("run") / "summary.json"
    written = dataclasses.replace(SUMMARY, metrics=metrics, reason=text)
    written.write(path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(path.read_bytes(), parse_constant=refuse)
    read = RunSummary.read(path)
    assert read.reason == text
    assert read.metrics.keys() == metrics.keys()
    np.testing.assert_array_equal(list(read.metrics.values()), list(metrics.values()))


def test_nan_is_null_and_infinity_is_text(tmp_path: Path) -> None:
    metrics = {"a": math.nan, "b": math.inf, "c": -math.inf}
    dataclasses.replace(SUMMARY, metrics=metrics).write(tmp_path / "s.json")
    plain = json.loads((tmp_path / "s.json").read_text())
    assert plain["metrics"] == {"a": None, "b": "inf", "c": "-inf"}


def test_a_path_that_is_no_utf8_survives(tmp_path: Path) -> None:
    run_dir = os.fsdecode(b"/runs/caf\xe9 \xe5\x9b\xbe")
    dataclasses.replace(SUMMARY, run_dir=run_dir).write(tmp_path / "s.json")
    assert RunSummary.read(tmp_path / "s.json").run_dir == run_dir
    assert "图" in (tmp_path / "s.json").read_text()


def test_numpy_scalars_become_plain_numbers() -> None:
    metrics = {"val/accuracy": np.float32(0.5), "cost/flops": np.int64(7)}
    summary = dataclasses.replace(SUMMARY, metrics=metrics)
    assert [type(value) for value in summary.metrics.values()] == [float, float]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "DONE"}, "status is 'DONE': it must be one of FINISHED, FAILED, KILLED"),
        ({"seed": 1.5}, "seed is 1.5: it must be a whole number"),
        ({"seed": True}, "seed is True"),
        ({"name": None}, "name is None: it must be text"),
        ({"duration_seconds": math.nan}, "duration_seconds is nan: it must be a finite number"),
        ({"metrics": {"a": "b"}}, "metrics is .*: it must be numbers by name"),
        ({"metrics": [1.0]}, "it must be numbers by name"),
        ({"reason": 3}, "reason is 3: it must be text or nothing"),
        ({"run_dir": "outputs/x"}, "run_dir is 'outputs/x': it must be an absolute path"),
        ({"checkpoint": "last.ckpt"}, "checkpoint is 'last.ckpt': it must be an absolute path"),
    ],
)
def test_wrong_values_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SUMMARY, **change)


GOOD = dataclasses.asdict(SUMMARY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\xfd",
        b"[]",
        b"null",
        b"{}",
        b'{"run_id": "a"',
        json.dumps(GOOD | {"unknown": 1}).encode(),
        json.dumps({k: v for k, v in GOOD.items() if k != "seed"}).encode(),
        json.dumps(GOOD | {"duration_seconds": math.nan}).encode(),
        json.dumps(GOOD | {"metrics": {"a": "nan"}}).encode(),
        json.dumps(GOOD | {"metrics": {"a": 10**400}}).encode(),
        json.dumps(GOOD | {"duration_seconds": 10**400}).encode(),
        b"[" * 100_000,
    ],
)
def test_rubbish_holds_no_summary(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"summary\.json holds no summary of a run: "):
        RunSummary.read(tmp_path / "summary.json")


def test_the_folds_of_a_cross_validation_come_back_as_written(tmp_path: Path) -> None:
    folds = {"val/accuracy": [0.5, 0.25], "val/loss": [math.inf, 1.0]}
    whole = dataclasses.replace(SUMMARY, folds=folds)
    whole.write(tmp_path / "summary.json")
    assert RunSummary.read(tmp_path / "summary.json") == whole
    dataclasses.replace(SUMMARY, fold=2).write(tmp_path / "summary.json")
    assert RunSummary.read(tmp_path / "summary.json").fold == 2
    for wrong in ({"val/accuracy": 0.5}, {"val/accuracy": ["0.5"]}, {"val/accuracy": [True]}, []):
        with pytest.raises(ValueError, match=r"folds is .*: it must be lists of numbers by name"):
            dataclasses.replace(SUMMARY, folds=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fold is '2'"):
        dataclasses.replace(SUMMARY, fold="2")  # type: ignore[arg-type]
