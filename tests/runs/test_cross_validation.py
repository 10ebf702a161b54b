"""Cross-validations in this process: their folds by hand, their interruptions, their numbers."""

from __future__ import annotations

import csv
import itertools
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from src import api
from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.data.loading.loaders import Batch
from src.features import feature_table as features
from src.machine.interruption import Interrupted
from src.records.run import Predictions, RunSummary
from src.runs.experiment import run_experiment
from src.runs.fold_records import fold_means
from src.runs.settings import read_resumed_settings
from src.training.task import ClassificationTask
from tests.data.pictures import tree

pytestmark = pytest.mark.usefixtures("blank_figures")

SMALL = [
    *("model=mlp", "model.hidden=[32]", "runtime=float32", "runtime.threads=1"),
    "trainer.max_epochs=1",
    *("data.batch_size=128", "tracking=none", "tracking.figures=false", "trainer.progress=false"),
]


def train(output_dir: Path, *overrides: str, on_epoch=None) -> RunSummary:
    overrides = (*SMALL, f"output_dir={output_dir}", *overrides)
    command = shlex.join(["python", "-m", "src.train", *overrides])
    summary = run_experiment(read_run_settings(overrides), on_epoch, command=command)
    assert summary is not None
    return summary


def said(summary: RunSummary, name: str = "val") -> Predictions:
    return Predictions.read(Path(summary.run_dir) / "predictions" / f"{name}.parquet")


def fold_runs(whole: RunSummary) -> list[RunSummary]:
    """The summaries of its folds, in order."""
    folder = Path(whole.run_dir)
    runs: dict[str, str] = json.loads((folder / "folds.json").read_text())["runs"]
    return [
        RunSummary.read(folder.parent / runs[str(n + 1)] / "summary.json") for n in range(len(runs))
    ]


def same(one: Predictions, other: Predictions) -> None:
    np.testing.assert_array_equal(one.sample_ids, other.sample_ids)
    np.testing.assert_array_equal(one.probs, other.probs)


def test_every_picture_is_predicted_by_the_fold_that_had_not_seen_it(tmp_path: Path) -> None:
    whole = train(tmp_path, "cv.folds=3", "cv.repeats=2", "tracking.figures=true")
    assert whole.start == "from scratch" and whole.weights is None
    runs = fold_runs(whole)
    assert [run.fold for run in runs] == [1, 2, 3, 4, 5, 6] and whole.fold is None
    single = train(tmp_path)
    from_val, ids = said(single).sample_ids, said(whole).sample_ids
    assert np.isin(from_val, ids).all() and len(np.unique(ids)) == len(ids) > 4 * len(from_val)
    for repeat in (1, 2):
        once = said(whole, f"val-repeat{repeat}")
        np.testing.assert_array_equal(once.sample_ids, ids)
        held_out = [said(run) for run in runs[3 * repeat - 3 : 3 * repeat]]
        assert sum(len(one.sample_ids) for one in held_out) == len(ids)
        for one in held_out:
            np.testing.assert_array_equal(
                once.probs[np.searchsorted(ids, one.sample_ids)], one.probs
            )
    both = [said(whole, f"val-repeat{repeat}").probs.astype(np.float64) for repeat in (1, 2)]
    np.testing.assert_allclose(said(whole).probs, (both[0] + both[1]) / 2, atol=1e-7)
    assert not np.array_equal(both[0], both[1])

    values = [run.metrics["val/accuracy"] for run in runs]
    assert whole.folds is not None and whole.folds["val/accuracy"] == values
    assert whole.metrics == fold_means(whole.folds, 3)
    assert len({run.split_fingerprint for run in [*runs, whole, single]}) == 8

    folder = Path(whole.run_dir)
    with (folder / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val/accuracy"]) for row in rows] == values
    assert [row["repeat"] for row in rows] == ["1"] * 3 + ["2"] * 3
    assert {"val_confusion_matrix.png", "val_reliability.png", "val_mistakes.png"} <= {
        path.name for path in (folder / "figures").iterdir()
    }
    with (folder / "suspects.csv").open(newline="") as file:
        doubtful = [row for row in csv.DictReader(file) if row["kind"] == "label"]
    parts = {row["part"] for row in doubtful}
    assert parts == {"train", "val"}, "labels of training pictures are looked at as well"
    counted = (tmp_path / "test_measurements.jsonl").read_text().splitlines()
    assert len(counted) == 1, "the single run alone measures the test part"


def test_a_folds_command_repeats_it(tmp_path: Path) -> None:
    auto = ("runtime=auto", "data.batch_size=auto")
    whole = train(tmp_path, "cv.folds=3", *auto, "evaluate_test=true")
    second = fold_runs(whole)[1]
    _, _, _, *overrides = shlex.split(second.command)
    assert "cv.fold=2" in overrides and "evaluate_test=false" in overrides
    said_keys = {
        override.partition("=")[0] for override in overrides if not override.endswith("=auto")
    }
    assert {"runtime.precision", "data.batch_size"} <= said_keys, "what was chosen is said"
    again = train(tmp_path / "by hand", *overrides[len(SMALL) + 1 :])
    same(said(again), said(second))
    assert again.split_fingerprint == second.split_fingerprint
    other = fold_runs(train(tmp_path / "other", "cv.folds=3", "seed=1"))[1]
    assert other.split_fingerprint == second.split_fingerprint
    assert not np.array_equal(said(other).probs, said(second).probs)
    # A fold never measures the test part, whatever it is told.
    alone = train(tmp_path / "alone", "cv.folds=3", "cv.fold=3", "evaluate_test=true")
    third = fold_runs(whole)[2]
    np.testing.assert_array_equal(said(alone).sample_ids, said(third).sample_ids)
    assert not list(tmp_path.rglob("test_measurements.jsonl"))
    assert not any(key.startswith("test/") for key in alone.metrics | whole.metrics)


def test_one_that_was_stopped_goes_on_with_the_folds_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("cv.folds=3", "model.dropout=0.3", "trainer.max_epochs=2")
    whole = train(tmp_path / "whole", *overrides)
    original, steps = ClassificationTask.training_step, itertools.count(1)

    def step(self: ClassificationTask, batch: Batch, index: int) -> torch.Tensor:
        if next(steps) == 20:  # within the second epoch of the second fold
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", step)
        with pytest.raises(Interrupted, match="SIGTERM"):
            train(tmp_path / "cut", *overrides)
    (book,) = (tmp_path / "cut" / "runs").glob("*/folds.json")
    stopped = RunSummary.read(book.parent / "summary.json")
    assert stopped.status == "KILLED" and stopped.split_fingerprint is None
    assert stopped.folds is not None and len(stopped.folds["val/accuracy"]) == 1
    first, second = json.loads(book.read_text())["runs"].values()
    untouched = (book.parent.parent / first / "summary.json").stat().st_mtime_ns
    content = book.read_bytes()
    book.write_bytes(content[:-9])
    with pytest.raises(ConfigError, match=r"^resume: .*folds\.json is damaged .*: put a copy"):
        run_experiment(read_resumed_settings([f"resume={book.parent}"]), command="resume")
    book.write_bytes(content)
    resumed = run_experiment(read_resumed_settings([f"resume={book.parent}"]), command="resume")
    assert resumed is not None and resumed.status == "FINISHED"
    assert resumed.command == stopped.command
    assert [Path(run.run_dir).name for run in fold_runs(resumed)][:2] == [first, second]
    assert (book.parent.parent / first / "summary.json").stat().st_mtime_ns == untouched
    same(said(resumed), said(whole))
    assert resumed.split_fingerprint == whole.split_fingerprint
    assert resumed.metrics["val/log_loss"] == whole.metrics["val/log_loss"]
    assert fold_runs(resumed)[2].command.endswith("cv.fold=3 evaluate_test=false")
    with pytest.raises(ConfigError, match="the folds that have ended keep theirs"):
        read_resumed_settings([f"resume={book.parent}", "trainer.max_epochs=3"])
    # Nor does one of them go on alone: the figures of the whole would be of other weights.
    one = book.parent.parent / first
    with pytest.raises(ConfigError, match=rf"max_epochs: {first} is a fold of {book.parent.name}"):
        read_resumed_settings([f"resume={one}", "trainer.max_epochs=3"])
    assert read_resumed_settings([f"resume={one}"]).cv.fold == 1
    shutil.rmtree(book.parent)
    assert read_resumed_settings([f"resume={one}", "trainer.max_epochs=3"]).trainer.max_epochs == 3


def test_what_is_raised_after_a_fold_ends_it(tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []

    def on_fold(fold: int, metrics: dict[str, float]) -> None:
        heard.append((fold, metrics["val/accuracy"]))
        if fold == 1:
            raise ArithmeticError("enough")

    with pytest.raises(ArithmeticError, match="enough"):
        train(tmp_path, "cv.folds=3", on_epoch=on_fold)
    (book,) = (tmp_path / "runs").glob("*/folds.json")
    summary = RunSummary.read(book.parent / "summary.json")
    assert summary.status == "FAILED" and "enough" in str(summary.reason)
    assert summary.folds is not None
    assert heard == list(enumerate(summary.folds["val/accuracy"])) and len(heard) == 2


def test_hand_crafted_features_are_computed_once_for_all_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = features.described

    def described(extractor, read, indices, workers, *late):  # type: ignore[no-untyped-def]
        calls.append(len(indices))
        return original(extractor, read, indices, 1, *late)

    monkeypatch.setattr(features, "described", described)
    overrides = ["model=handcrafted", "model.features=[raw]", "model.classifier=logistic"]
    overrides += ["tracking=none", "tracking.figures=false", f"output_dir={tmp_path}", "cv.folds=3"]
    whole = run_experiment(read_run_settings(overrides), command="python -m src.train")
    assert whole is not None and len(calls) == 1
    assert whole.metrics["val/accuracy"] > 0.8 and whole.metrics["val/accuracy_sd"] < 0.1
    assert len(said(whole).sample_ids) == calls[0]


def test_what_cannot_be_cross_validated_is_refused_before_there_is_a_folder(
    tmp_path: Path,
) -> None:
    pictures = tree(tmp_path / "pictures", {"cats": 8, "newts": 1})
    overrides = ["data=folder", f"data.root={pictures}", "data.batch_size=8"]
    with pytest.raises(ConfigError, match=r"cv\.folds: .*8 folds, but only \d .*can be held out"):
        train(tmp_path / "out", *overrides, "cv.folds=8")
    for wrong, message in (
        (["cv.folds=3", "trainer.devices=2"], "one after another on one device"),
        (["cv.folds=1"], "at least 2"),
        (["cv.fold=2"], r"cv\.fold is 2, which means nothing while folds is null"),
        (["cv.repeats=2"], r"cv\.repeats is 2, which means nothing while folds is null"),
        (["cv.folds=3", "cv.repeats=2", "cv.fold=7"], r"cv\.fold is 7, but there are 6"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_run_settings(wrong)
    assert not (tmp_path / "out").exists()
    assert train(tmp_path / "out", *overrides, "cv.folds=2").status == "FINISHED"


def test_groups_stay_in_one_fold(tmp_path: Path) -> None:
    pictures = tree(tmp_path / "pictures", {"a": 30, "b": 30})
    names = [f"{'ab'[i // 30]}/{i:03d}.png" for i in range(60)]
    camera = [f"c{i % 9}" for i in range(60)]
    rows = [f"{name},{name[0]},{group}" for name, group in zip(names, camera, strict=True)]
    table = pictures / "pictures.csv"
    table.write_text("\n".join(["path,label,group", *rows]) + "\n")
    overrides = ["data=folder", f"data.root={table}", "data.batch_size=8", "cv.folds=3"]
    whole = train(tmp_path / "out", *overrides, "cv.repeats=2")
    for repeat in (0, 1):
        folds: dict[str, set[int]] = {}
        for fold, run in enumerate(fold_runs(whole)[3 * repeat : 3 * repeat + 3]):
            for path in said(run).paths or ():
                folds.setdefault(camera[names.index(path)], set()).add(fold)
        assert len(folds) > 5 and all(len(where) == 1 for where in folds.values())


def test_repeats_are_compared_by_the_answers_of_their_folds(tmp_path: Path) -> None:
    overrides = ["data=digits", "data.target=ordinal", "data.answer=kappa", "data.limit=60"]
    whole = train(tmp_path, *overrides, "cv.folds=2", "cv.repeats=2", "evaluate_test=false")
    folds = [said(run) for run in fold_runs(whole)]
    compared = api.compare(f"runs=[{whole.name}]", output_dir=tmp_path).leaderboard()
    figures = []
    for repeat in (0, 1):
        kept, own = said(whole, f"val-repeat{repeat + 1}"), folds[2 * repeat : 2 * repeat + 2]
        answers = {i: a for one in own for i, a in zip(one.sample_ids, one.decided, strict=True)}
        assert [answers[i] for i in kept.sample_ids] == kept.decided.tolist()
        assert kept.decided.tolist() != kept.probs.argmax(axis=1).tolist()
        figures.append(cohen_kappa_score(kept.targets, kept.decided, weights="quadratic"))
    assert compared["figure"][0] == pytest.approx(np.mean(figures), abs=1e-5)


def test_what_looks_at_the_held_out_fold_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, "cv.folds=2")
    shown = capsys.readouterr().out
    assert "flatter" not in shown
    assert shown.count("run: ") == 1, "folds have a line of their own, and no headline"
    train(tmp_path, "cv.folds=2", "trainer.final_weights=best")
    assert "trainer.final_weights: it looks at the fold" in capsys.readouterr().out


def test_rare_classes_are_held_out_by_some_folds_or_by_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tree(tmp_path / "pictures", {"cats": 24, "dogs": 24, "emu": 1, "newts": 3})
    overrides = ["data=folder", f"data.root={pictures}", "data.batch_size=8", "cv.folds=4"]
    whole = train(tmp_path / "out", *overrides)
    shown = capsys.readouterr().out
    some = r"fewer pictures than 4 folds: some folds hold out none of newts \d"
    assert re.search(some, shown) and "emu from, which trains in all folds" in shown
    emu, newts = (list(said(whole).class_names).index(name) for name in ("emu", "newts"))
    held_out = said(whole).targets
    assert emu not in held_out and newts in held_out
    assert {"val/accuracy", "val/balanced_accuracy", "val/auc"} <= whole.metrics.keys()
    assert all(np.isfinite(value) for value in whole.metrics.values())


def test_one_that_goes_on_wants_its_own_pictures(tmp_path: Path) -> None:
    pictures = tree(tmp_path / "pictures", {"a": 12, "b": 12})
    overrides = ["data=folder", f"data.root={pictures}", "data.batch_size=8", "cv.folds=2"]
    whole = train(tmp_path / "out", *overrides)
    (pictures / "a" / "003.png").unlink()
    with pytest.raises(ConfigError, match="are others than those"):
        run_experiment(read_resumed_settings([f"resume={whole.run_dir}"]))
