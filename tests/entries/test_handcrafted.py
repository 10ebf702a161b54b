"""A classifier on hand-crafted features, from the command line to labels and back."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from src.data.sources.digits import load
from src.runs.seal import break_seal
from tests.entries.conftest import Run


@pytest.fixture(scope="module")
def fitted(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the digits, finished and mirrored in MLflow."""
    output_dir = tmp_path_factory.mktemp("hand crafted")
    result = run("src.train", "model=handcrafted", f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    assert "rbf_svm on scattering" in result.stdout
    return Path(result.stdout.splitlines()[-1].removeprefix("summary: ")).parent


def test_mlflow_mirrors_it_beside_the_networks(fitted: Path) -> None:
    summary = json.loads((fitted / "summary.json").read_text())
    assert summary["status"] == "FINISHED" and summary["metrics"]["test/accuracy"] > 0.98
    with sqlite3.connect(fitted.parents[1] / "mlflow.db") as database:
        final = dict(database.execute("select key, value from latest_metrics").fetchall())
        params = dict(database.execute("select key, value from params").fetchall())
        tags = dict(database.execute("select key, value from tags").fetchall())
        experiments = database.execute("select name from experiments").fetchall()
    assert final["test/accuracy"] == pytest.approx(summary["metrics"]["test/accuracy"])
    assert params["model.classifier"] == "rbf_svm" and "optimizer.lr" not in params
    assert tags["bakeoff.family"] == "handcrafted" and ("bakeoff",) in experiments


def test_evaluate_repeats_the_figures(fitted: Path, run: Run, tmp_path: Path) -> None:
    shutil.copytree(fitted.parents[1], tmp_path / "copy")
    folder = tmp_path / "copy" / "runs" / fitted.name
    before = json.loads((folder / "summary.json").read_text())
    words = [f"run={before['run_id']}", "split=test", f"output_dir={tmp_path / 'copy'}"]
    result = run("src.evaluate", *words)
    assert result.returncode == 0, result.stderr
    assert "has been measured 2 times" in result.stdout
    after = json.loads((folder / "summary.json").read_text())
    assert after["metrics"]["test/log_loss"] == before["metrics"]["test/log_loss"]


def test_predict_labels_pictures_as_any_run_does(fitted: Path, run: Run, tmp_path: Path) -> None:
    source = load(None, tmp_path, False)
    (tmp_path / "new").mkdir()
    for digit in range(10):
        index = int((source.targets == digit).argmax())
        Image.fromarray(source.arrays[index, 0]).resize((64, 48)).save(
            tmp_path / "new" / f"{digit}.png"
        )
    (tmp_path / "new" / "empty.jpg").touch()
    out = tmp_path / "labels.csv"
    result = run("src.predict", f"run={fitted}", f"images={tmp_path / 'new'}", f"out={out}")
    assert result.returncode == 0, result.stderr
    assert "10 pictures labelled" in result.stderr and "empty.jpg" in result.stderr
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert sum(Path(row["path"]).stem == row["label"] for row in rows) >= 8
    assert list(rows[0])[:5] == ["path", "label", "probability", "label_2", "probability_2"]


def test_there_is_nothing_to_explain(fitted: Path, run: Run, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    words = [
        f"run={fitted}",
        f"images={tmp_path}/a.png",
        f"out={tmp_path}/labels.csv",
        "explain=true",
    ]
    result = run("src.predict", *words)
    assert result.returncode == 2 and "in handcrafted no value belongs" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not (tmp_path / "a.csv").exists()
    assert not list((fitted / "figures").glob("*class_maps*"))


@pytest.mark.parametrize(
    "module", [pytest.param("src.evaluate", marks=pytest.mark.slow), "src.predict"]
)
def test_a_model_that_was_tampered_with_is_refused(
    fitted: Path, run: Run, tmp_path: Path, module: str
) -> None:
    folder = tmp_path / "runs" / fitted.name
    shutil.copytree(fitted, folder)
    model = folder / "checkpoints" / "model.skops"
    with zipfile.ZipFile(model) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    schema = parts["schema.json"].replace(b"src.features.rbf", b"subprocess")
    parts["schema.json"] = schema.replace(b"RbfMachine", b"Popen")
    assert parts["schema.json"].count(b"Popen")
    with zipfile.ZipFile(model, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    break_seal(folder)  # who changes a model may take its seal away too
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    words = [f"images={tmp_path / 'a.png'}"] if module == "src.predict" else []
    result = run(module, f"run={folder}", *words)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "holds subprocess.Popen, so it is not loaded" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_words_for_networks_are_refused(run: Run, tmp_path: Path) -> None:
    words = ["model=handcrafted", "optimizer.lr=0.1", f"output_dir={tmp_path}"]
    result = run("src.train", *words)
    assert result.returncode == 2 and "optimizer.lr: it changes nothing" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
