"""A run made faster: from the command to labels, MLflow, and files that were tampered with."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from src.data.sources.digits import load
from tests.entries.commands import complete, rows, summary_of
from tests.entries.conftest import Outputs, Run, Train

pytestmark = pytest.mark.slow
WITH_EXTRA = importlib.util.find_spec("onnxruntime") is not None
VARIANTS = ("onnx", "int8", "pt2") if WITH_EXTRA else ("pt2",)


@pytest.fixture(scope="module")
def short_run(train: Train, outputs: Outputs) -> Path:
    """A short run on the digits, whose predictions are means over shifted views."""
    words = ["model=mlp", "runtime=bfloat16", "trainer.max_epochs=2", "trainer.tta=shift"]
    return train(outputs("a run, short"), *words, "tracking.figures=false")


@pytest.fixture(scope="module")
def exported(short_run: Path, run: Run) -> tuple[Path, str]:
    """The run's folder after `python -m src.export`, and what was printed."""
    words = [f"run={short_run}", f"variants=[{','.join(VARIANTS)}]", f"choose={VARIANTS[0]}"]
    words += ["rounds=2", "least_equal=0.97"]
    result = run("src.export", *words)
    assert result.returncode == 0, result.stderr
    return short_run, result.stdout


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    source = load(None, folder, False)
    assert source.arrays is not None
    for index in range(100):
        Image.fromarray(source.arrays[index, 0]).resize((20, 20)).save(folder / f"{index:03}.png")
    return folder


def labels(run: Run, folder: Path, pictures: Path, out: Path, *words: str) -> list[list[str]]:
    result = run("src.predict", f"run={folder}", f"images={pictures}", f"out={out}", *words)
    assert result.returncode == 0, result.stderr
    with out.open() as file:
        return [row[1:3] for row in csv.reader(file)][1:]


def test_every_variant_is_compared_with_the_run(exported: tuple[Path, str]) -> None:
    folder, printed = exported
    record = json.loads((folder / "exports" / "export.json").read_text())
    rows = {row["name"]: row for row in record["variants"]}
    assert list(rows) == ["pytorch", "pytorch bfloat16", *VARIANTS] and record["missing"] == {}
    assert record["chosen"] == VARIANTS[0] and record["pictures"] > 200
    assert rows["pytorch"]["equal_labels"] == 1.0 and rows["pytorch"]["largest_difference"] == 0.0
    for name in VARIANTS:
        row = rows[name]
        exact = name != "int8"
        assert row["equal_labels"] == 1.0 if exact else row["equal_labels"] > 0.95
        assert (row["largest_difference"] < 1e-4) == exact
        assert row["milliseconds"].keys() == row["speedup"].keys() == {"1", "64"}
        median, low, high = row["speedup"]["1"]
        assert 0 < low <= median <= high and name in printed
    assert rows["pytorch bfloat16"]["largest_difference"] > 1e-4
    assert "recommended:" in printed and f"variant={VARIANTS[0]}" in printed


def test_accuracy_is_that_of_the_runs_own_record(exported: tuple[Path, str]) -> None:
    folder, _ = exported
    record = json.loads((folder / "exports" / "export.json").read_text())
    measured = summary_of(folder)["metrics"]["val/accuracy"]
    assert record["variants"][1]["accuracy"] == pytest.approx(measured)


@pytest.mark.parametrize("variant", [*VARIANTS, "chosen"])
def test_predict_on_a_variant_gives_the_labels_of_the_run(
    exported: tuple[Path, str], run: Run, pictures: Path, tmp_path: Path, variant: str
) -> None:
    folder, _ = exported
    before = labels(run, folder, pictures, tmp_path / "a.csv")
    after = labels(run, folder, pictures, tmp_path / "b.csv", f"variant={variant}", "batch_size=7")
    assert len(before) == len(after) == 100
    equal = [a == b for (a, _), (b, _) in zip(before, after)]
    assert sum(equal) >= (95 if variant == "int8" else 99)  # the run itself rounds to bfloat16
    apart = [abs(float(a) - float(b)) for (_, a), (_, b) in zip(before, after)]
    assert max(apart) < (0.3 if variant == "int8" else 0.05)


def test_mlflow_has_the_choice_beside_the_runs_own_model(exported: tuple[Path, str]) -> None:
    folder, printed = exported
    models = dict(rows(folder.parents[1], "select name, status from logged_models"))
    assert models.keys() == {"model", VARIANTS[0]} and len(set(models.values())) == 1
    assert rows(folder.parents[1], "select status from runs") == ["FINISHED"]
    assert f"/{VARIANTS[0]} --env-manager local" in printed


@pytest.mark.parametrize("variant", VARIANTS[-2:])
def test_a_damaged_variant_is_refused_in_a_sentence(
    exported: tuple[Path, str], run: Run, pictures: Path, tmp_path: Path, variant: str
) -> None:
    folder = tmp_path / "runs" / exported[0].name
    shutil.copytree(exported[0], folder)
    (file,) = (folder / "exports" / variant).glob("network.*")
    file.write_bytes(file.read_bytes()[:-1000])
    result = run("src.predict", f"run={folder}", f"images={pictures}", f"variant={variant}")
    assert result.returncode == 2, result.stdout + result.stderr
    assert len(result.stderr.splitlines()) == 1 and file.name in result.stderr


def test_without_the_extra_it_says_how_to_get_it(short_run: Path, environment: dict) -> None:
    hidden = (
        "import sys, runpy; sys.modules['onnxruntime'] = None\n"
        f"sys.argv = ['src.export', {f'run={short_run}'!r}, *sys.argv[1:]]\n"
        "runpy.run_module('src.export', run_name='__main__')"
    )
    done = complete([sys.executable, "-c", hidden], environment)
    assert done.returncode == 2 and "make install EXTRAS=export" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_classifier_on_features_is_refused(run: Run, train: Train, tmp_path: Path) -> None:
    words = ["model=handcrafted", "model.features=[raw]", "model.classifier=logistic"]
    folder = train(tmp_path, *words, "tracking=none")
    result = run("src.export", f"run={folder.name}", f"output_dir={tmp_path}", "variants=[pt2]")
    assert (
        result.returncode == 2
        and "no single network, and only networks are exported" in result.stderr
    )
    assert len(result.stderr.splitlines()) == 1 and not (folder / "exports").exists()
