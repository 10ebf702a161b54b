"""One run from the command line to its folder and to MLflow, and evaluated again."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from tests.entries.commands import complete, rows, summary_of
from tests.entries.conftest import EPOCHS, Run


def test_a_run_folder_holds_the_whole_run(trained: Path) -> None:
    summary = summary_of(trained)
    assert summary["status"] == "FINISHED" and summary["model"] == "cnn"
    assert summary["data"] == "digits" and summary["seed"] == 0
    assert re.fullmatch("[0-9a-f]{32}", summary["run_id"])
    assert re.fullmatch("[0-9a-f]+", summary["split_fingerprint"])
    assert summary["num_parameters"] > 1000 and summary["duration_seconds"] > 0
    assert Path(summary["checkpoint"]).is_file()
    assert summary["test_measurements"] == 1
    assert yaml.safe_load((trained / "config.yaml").read_text())["trainer"]["max_epochs"] == EPOCHS
    assert not re.search("[=,]", str(trained.name))
    assert (trained / "checkpoints" / "last.ckpt").is_file()
    for key in ("val/accuracy", "val/log_loss", "val/brier", "val/calibration_error"):
        assert summary["metrics"][key] >= 0
    for key in ("cost/parameters", "cost/flops", "cost/latency_ms", "cost/throughput"):
        assert summary["metrics"][key] > 0


def test_lightning_is_imported_for_networks_alone_and_prints_nothing(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """With torchmetrics it is two seconds of a processor's time, of the ten of a short run."""
    overrides = ["data=digits", "data.limit=300", "tracking=none", "tracking.figures=false"]
    overrides.append(f"output_dir={tmp_path}")
    code = (
        "import sys; from src.train import main\n"
        "for model in (['model=handcrafted'], ['model=mlp', 'trainer.max_epochs=1']):\n"
        f"    sys.argv = ['train', *model, *{overrides!r}]\n"
        "    print(main(), {'pytorch_lightning', 'torchmetrics'} & set(sys.modules), end='\\f')"
    )
    done = complete([sys.executable, "-c", code], environment)
    handcrafted, network = (text.splitlines()[-1] for text in done.stdout.split("\f")[:2])
    assert handcrafted == "0 set()" and network.startswith("0 {"), done.stderr
    assert not re.search("GPU|TPU|Tip|Lightning(?! \\.\\.\\.)|Trainer", done.stderr)


@pytest.mark.parametrize("part", ["val", "test"])
def test_stored_predictions_give_the_stored_accuracy(trained: Path, part: str) -> None:
    metrics = summary_of(trained)["metrics"]
    table = pq.ParquetFile(trained / "predictions" / f"{part}.parquet").read().to_pydict()
    probs, targets = np.array(table["probabilities"]), np.array(table["target"])
    assert np.allclose(probs.sum(axis=1), 1, atol=1e-5)
    assert (probs.argmax(axis=1) == targets).mean() == pytest.approx(metrics[f"{part}/accuracy"])
    with (trained / "split.csv").open() as file:
        parts = [row["part"] for row in csv.DictReader(file)]
    assert sorted(table["index"]) == [i for i, p in enumerate(parts) if p == part]


def test_the_checkpoint_loads_without_running_code(trained: Path) -> None:
    checkpoint = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == EPOCHS - 1 and checkpoint["bakeoff"]["class_names"][3] == "3"


def test_mlflow_mirrors_the_run(trained: Path) -> None:
    summary, output_dir = summary_of(trained), trained.parents[1]
    statement = "select status, artifact_uri from runs where run_uuid = ?"
    ((status, uri),) = rows(output_dir, statement, summary["run_id"])
    assert status == "FINISHED"
    steps = rows(output_dir, "select step from metrics where key = 'train/loss'")
    assert sorted(steps) == [*range(1, EPOCHS + 1)]
    final, params, tags = mirrored(output_dir)
    assert final["test/accuracy"] == pytest.approx(summary["metrics"]["test/accuracy"])
    assert params["optimizer.lr"] == "0.004" and params["model.name"] == "cnn"
    assert "python -m src.train model=cnn" in tags["bakeoff.command"]
    assert tags["bakeoff.data"] == "digits"
    assert "validation accuracy" in tags["mlflow.note.content"]
    artifacts = Path(unquote(uri.removeprefix("file://")))
    for name in ("config.yaml", "predictions/val.parquet", "figures/learning_curves.png"):
        assert (artifacts / name).is_file(), name


def test_what_knows_no_epochs_has_every_picture_but_that_of_its_curves(fitted: Path) -> None:
    drawn = {path.name for path in (fitted / "figures").iterdir()}
    assert {"val_confusion_matrix.png", "test_confusion_matrix.png", "suspects.png"} <= drawn
    assert "learning_curves.png" not in drawn


def test_mlflow_mirrors_a_classifier_beside_the_networks(fitted: Path) -> None:
    summary, output_dir = summary_of(fitted), fitted.parents[1]
    assert summary["status"] == "FINISHED" and summary["metrics"]["test/accuracy"] > 0.98
    final, params, tags = mirrored(output_dir)
    assert final["test/accuracy"] == pytest.approx(summary["metrics"]["test/accuracy"])
    assert params["model.classifier"] == "rbf_svm" and "optimizer.lr" not in params
    assert (tags["bakeoff.family"], tags["bakeoff.metric"]) == ("handcrafted", "accuracy")
    assert "bakeoff-digits" in rows(output_dir, "select name from experiments")


def mirrored(output_dir: Path) -> list[dict[str, Any]]:
    """The metrics, params and tags of the only run in MLflow."""
    tables = ("latest_metrics", "params", "tags")
    return [dict(rows(output_dir, f"select key, value from {table}")) for table in tables]


def test_it_ends_with_the_command_that_uses_the_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "new" / "a.png")
    quick = ["model=mlp", "data.limit=100", "trainer.max_epochs=1", "tracking=none"]
    done = run("src.train", *quick, "tracking.figures=false", f"output_dir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("next: "))
    *_, module, run_name, images, out, place = shlex.split(line)
    assert (images, out) == ("images=FOLDER", "out=labels.csv")
    answers = run(module, run_name, f"images={tmp_path / 'new'}", place)
    assert answers.returncode == 0 and "a.png" in answers.stdout, answers.stderr


@pytest.mark.parametrize("kind", ["trained", pytest.param("fitted", marks=pytest.mark.slow)])
def test_evaluate_repeats_the_figures_which_is_no_further_look(
    request: pytest.FixtureRequest, run: Run, tmp_path: Path, kind: str
) -> None:
    original = request.getfixturevalue(kind)
    output_dir = Path(shutil.copytree(original.parents[1], tmp_path / "copy"))
    folder = output_dir / "runs" / original.name
    before = summary_of(folder)
    overrides = [f"run={before['run_id']}", "split=test", f"output_dir={output_dir}"]
    result = run("src.evaluate", *overrides)
    assert result.returncode == 0, result.stderr
    assert "has been measured once" in result.stdout
    assert "\nlog-loss " in result.stdout and "\nrecall of 3 " in result.stdout
    after = summary_of(folder)
    for measured in ("test/accuracy", "test/log_loss"):
        assert after["metrics"][measured] == before["metrics"][measured]
    assert after["test_measurements"] == 1
    result = run("src.evaluate", f"run={before['name']}", "split=train", f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    final, _, _ = mirrored(output_dir)
    assert final["train/log_loss"] > 0
    assert rows(output_dir, "select status from runs") == ["FINISHED"]


@pytest.mark.parametrize("model", ["mlp", pytest.param("handcrafted", marks=pytest.mark.slow)])
def test_a_check_of_a_batch_comes_to_its_end(run: Run, tmp_path: Path, model: str) -> None:
    done = run("src.train", "debug=batch", f"model={model}", f"output_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    with (folder / "split.csv").open() as file:
        parts = Counter(row["part"] for row in csv.DictReader(file))
    assert [parts[one] for one in ("train", "val", "test")] == [64, 64, 64]
    summary = summary_of(folder)
    assert summary["status"] == "FINISHED" and "test/accuracy" not in summary["metrics"]
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cnn", "vit", "gru"])
def test_a_network_learns_a_batch_by_heart(run: Run, tmp_path: Path, model: str) -> None:
    done = run("src.train", "debug=overfit", f"model={model}", f"output_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    metrics = summary_of(folder)["metrics"]
    assert metrics["train/accuracy"] == 1.0 and metrics["train/loss"] < 0.05
