"""One run from the command line to its folder and to MLflow."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from tests.entries.conftest import EPOCHS, Run


def test_a_run_folder_holds_the_whole_run(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
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


@pytest.mark.parametrize("part", ["val", "test"])
def test_stored_predictions_give_the_stored_accuracy(trained: Path, part: str) -> None:
    metrics = json.loads((trained / "summary.json").read_text())["metrics"]
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
    summary = json.loads((trained / "summary.json").read_text())
    with sqlite3.connect(trained.parents[1] / "mlflow.db") as database:
        ((status, uri),) = database.execute(
            "select status, artifact_uri from runs where run_uuid = ?", [summary["run_id"]]
        )
        metrics = database.execute("select key, step, value from metrics").fetchall()
        final = dict(database.execute("select key, value from latest_metrics").fetchall())
        params = dict(database.execute("select key, value from params").fetchall())
        tags = dict(database.execute("select key, value from tags").fetchall())
    assert status == "FINISHED"
    epochs = sorted(step for key, step, _ in metrics if key == "train/loss")
    assert epochs == [*range(1, EPOCHS + 1)]
    assert final["test/accuracy"] == pytest.approx(summary["metrics"]["test/accuracy"])
    assert params["optimizer.lr"] == "0.004" and params["model.name"] == "cnn"
    assert "python -m src.train model=cnn" in tags["bakeoff.command"]
    artifacts = Path(unquote(uri.removeprefix("file://")))
    for name in ("config.yaml", "predictions/val.parquet", "figures/learning_curves.png"):
        assert (artifacts / name).is_file(), name


def test_evaluate_repeats_the_figures_and_counts_the_look(
    trained: Path, run: Run, tmp_path: Path
) -> None:
    output_dir = tmp_path / "copy"
    shutil.copytree(trained.parents[1], output_dir)
    folder = output_dir / "runs" / trained.name
    before = json.loads((folder / "summary.json").read_text())
    words = [f"run={before['run_id']}", "split=test", f"output_dir={output_dir}"]
    result = run("src.evaluate", *words)
    assert result.returncode == 0, result.stderr
    assert "has been measured 2 times" in result.stdout
    after = json.loads((folder / "summary.json").read_text())
    assert after["metrics"]["test/accuracy"] == before["metrics"]["test/accuracy"]
    assert after["test_measurements"] == 2
    result = run("src.evaluate", f"run={before['name']}", "split=train", f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    with sqlite3.connect(output_dir / "mlflow.db") as database:
        rows = database.execute("select key, value, step from latest_metrics").fetchall()
        statuses = database.execute("select status from runs").fetchall()
    shown = {key: value for key, value, _ in rows}
    assert shown["train/log_loss"] > 0 and statuses == [("FINISHED",)]


@pytest.mark.parametrize(
    ("module", "words", "parts"),
    [
        ("src.train", ["model=cn"], ["model is 'cn'", "cnn"]),
        ("src.train", ["data=folder", "data.root=/nowhere/to be found"], ["/nowhere/to be found"]),
        ("src.train", ["model=timm", "model.name=resnet19"], ["resnet19", "resnet18"]),
        ("src.train", ["resume=nothing"], ["nothing"]),
        ("src.evaluate", ["run=nothing"], ["nothing"]),
        ("src.evaluate", [], ["run is not set"]),
        ("src.predict", ["run=nothing", "images=."], ["nothing"]),
    ],
)
def test_bad_input_ends_with_2_and_one_sentence(
    run: Run, tmp_path: Path, module: str, words: list[str], parts: list[str]
) -> None:
    result = run(module, f"output_dir={tmp_path}", *words)
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
    assert all(part in result.stderr for part in parts), result.stderr
    assert not list(tmp_path.iterdir()), "a refused run left something behind"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from src.train import main; sys.argv = ['train', '--help']; main(); "
        "print(*sorted({'torch', 'mlflow', 'sklearn', 'optuna', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.splitlines()[-1] == ""
    assert "optimizer.lr=0.004" in result.stdout


@pytest.mark.slow
def test_two_devices_share_a_run_also_within_a_multirun(run: Run, tmp_path: Path) -> None:
    words = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=2", "model=mlp"]
    result = run("src.train", "-m", "seed=1,2", *words, "tracking=none", f"output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    summaries = [json.loads(p.read_text()) for p in tmp_path.glob("runs/*/summary.json")]
    assert sorted(s["seed"] for s in summaries) == [1, 2]
    assert all(s["status"] == "FINISHED" for s in summaries)
    assert result.stdout.count("summary: ") == 2
