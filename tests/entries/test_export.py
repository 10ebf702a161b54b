"""A run made faster: from the command to labels, MLflow, and files that were tampered with."""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sources.digits import load
from tests.data.pictures import write_pair
from tests.entries.commands import complaints, complete, rows, summary_of
from tests.entries.conftest import Outputs, Run, Train

pytestmark = pytest.mark.slow
WITH_EXTRA = importlib.util.find_spec("onnxruntime") is not None
VARIANTS = ("onnx", "int8", "pt2") if WITH_EXTRA else ("pt2",)


@pytest.fixture(scope="module")
def short_run(train: Train, outputs: Outputs) -> Path:
    """A short run on the digits, whose predictions are means over shifted views."""
    overrides = ["model=mlp", "runtime=bfloat16", "trainer.max_epochs=2", "trainer.tta=shift"]
    return train(outputs("a run, short"), *overrides, "tracking.figures=false")


@pytest.fixture(scope="module")
def exported(short_run: Path, run: Run) -> tuple[Path, str]:
    """The run's folder after `python -m src.export`, and what was printed."""
    overrides = [f"run={short_run}", f"variants=[{','.join(VARIANTS)}]", f"choose={VARIANTS[0]}"]
    overrides += ["rounds=2", "least_equal=0.97"]
    result = run("src.export", *overrides)
    assert result.returncode == 0, result.stderr
    # Before the minutes that it takes.
    assert "export: some " in result.stderr and "to compare and to time" in result.stderr
    return short_run, result.stdout


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    source = load(None, folder, False)
    assert source.arrays is not None
    for index in range(100):
        Image.fromarray(source.arrays[index, 0]).resize((20, 20)).save(folder / f"{index:03}.png")
    return folder


def labels(run: Run, folder: Path, pictures: Path, out: Path, *overrides: str) -> list[list[str]]:
    result = run("src.predict", f"run={folder}", f"images={pictures}", f"out={out}", *overrides)
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
    assert f" images=FOLDER out=labels.csv variant={VARIANTS[0]}\n" in printed


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
    assert len(complaints(result.stderr)) == 1 and file.name in result.stderr


def test_without_the_extra_it_says_how_to_get_it(short_run: Path, environment: dict) -> None:
    hidden = (
        "import sys, runpy; sys.modules['onnxruntime'] = None\n"
        f"sys.argv = ['src.export', {f'run={short_run}'!r}, *sys.argv[1:]]\n"
        "runpy.run_module('src.export', run_name='__main__')"
    )
    done = complete([sys.executable, "-c", hidden], environment)
    assert done.returncode == 2 and "make install EXTRAS=export" in done.stderr
    assert len(complaints(done.stderr)) == 1


UNFINISHED = """
import os, signal, sys
from dataclasses import replace
from src.export import main
from src.serving.export_formats import VARIANTS, CannotExport

def refused(*_):
    raise CannotExport("not today")

def killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)

sys.argv[1:] = [sys.argv[1], "variants=[pt2]", "choose=pt2", "rounds=1"]
made = VARIANTS["pt2"]
VARIANTS["pt2"] = replace(made, write=refused)
assert main() == 2
VARIANTS["pt2"] = replace(made, write=killed)
main()
"""


def test_a_refused_or_killed_export_leaves_the_earlier_one(
    exported: tuple[Path, str], environment: dict, run: Run, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / exported[0].name
    shutil.copytree(exported[0], folder)

    def contents() -> dict[str, bytes]:
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        return {str(f.relative_to(folder)): f.read_bytes() for f in files if "exports" in f.parts}

    before = contents()
    assert f"exports/{VARIANTS[0]}/digest.txt" in before
    done = complete([sys.executable, "-c", UNFINISHED, f"run={folder}"], environment)
    assert done.returncode == -9 and "choose is pt2: not today" in done.stderr, done.stderr
    assert contents() == before
    assert labels(run, folder, pictures, tmp_path / "a.csv", f"variant={VARIANTS[0]}")


def test_a_refit_is_compared_on_a_sample_of_its_training_pictures(
    train: Train, outputs: Outputs, run: Run
) -> None:
    overrides = ["model=mlp", "runtime=float32", "trainer.max_epochs=1", "data.train_on_val=true"]
    folder = train(outputs("a refit"), *overrides, "tracking=none", "tracking.figures=false")
    asked = ["variants=[pt2]", "rounds=1", "check_pictures=70"]
    result = run("src.export", f"run={folder}", *asked)
    assert result.returncode == 0, result.stderr
    assert "on 70 training pictures" in result.stdout and "comparing pytorch, pt2 on 70" in (
        result.stderr
    )


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of noise in which labels brighten corners: their sets, and how many, as grades."""
    folder, rng = tmp_path_factory.mktemp("labels") / "corners", np.random.default_rng(0)
    folder.mkdir()
    sets, grades = ["path,labels"], ["path,label"]
    for number in range(160):
        pixels = rng.integers(0, 100, (16, 16)).astype(np.uint8)
        there = [k for k in range(3) if rng.random() < 0.4]
        for k in there:
            pixels[8 * (k // 2) : 8 * (k // 2) + 8, 8 * (k % 2) : 8 * (k % 2) + 8] += 150
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
        sets.append(f"{number:03}.png,{';'.join('abc'[k] for k in there)}")
        grades.append(f"{number:03}.png,{len(there)}")
    (folder / "multi.csv").write_text("\n".join(sets) + "\n")
    (folder / "ordinal.csv").write_text("\n".join(grades) + "\n")
    return folder


@pytest.mark.parametrize(
    ("target", "loss"),
    [
        ("multi", ["loss=cross_entropy"]),
        ("ordinal", ["loss=corn", "data.answer=kappa"]),
        ("ordinal", ["loss=corn", "data.answer=mae"]),
        ("ordinal", ["loss=corn", "data.answer=cost"]),
    ],
)
def test_label_sets_and_ordered_classes_are_answered_by_their_files_alone(
    target: str, loss: list[str], corners: Path, train: Train, run: Run, tmp_path: Path
) -> None:
    data = [f"data.root={corners / target}.csv", f"data.target={target}", *loss]
    if "data.answer=cost" in loss:
        (tmp_path / "costs.csv").write_text(
            ",0,1,2,3\n0,0,1,2,3\n1,3,0,1,2\n2,6,3,0,1\n3,9,6,3,0\n"
        )
        data.append(f"costs={tmp_path / 'costs.csv'}")
    overrides = ["model=mlp", "runtime=float32", "trainer.max_epochs=30", "trainer.tta=shift"]
    folder = train(
        tmp_path, "data=folder", *data, *overrides, "tracking=none", "tracking.figures=false"
    )
    made = [f"variants=[{','.join(VARIANTS)}]", "rounds=2", f"choose={VARIANTS[0]}"]
    result = run("src.export", f"run={folder}", *made)
    assert result.returncode == 0, result.stderr
    record = json.loads((folder / "exports" / "export.json").read_text())
    assert record["missing"] == {}
    exact = {row["name"]: row for row in record["variants"] if row["name"] != "int8"}
    assert {row["equal_labels"] for row in exact.values()} == {1.0}
    assert max(row["largest_difference"] for row in exact.values()) < 1e-4
    assert record["variants"][0]["accuracy"] > 0.5, "it learned something"
    judged_by = "map" if target == "multi" else loss[-1].removeprefix("data.answer=")
    assert record["metric"] == judged_by
    if judged_by in ("map", "cost"):  # the other figures are by thresholds of the whole part
        measured = summary_of(folder)["metrics"][f"val/{judged_by}"]
        assert record["variants"][0]["figure"] == pytest.approx(measured, abs=1e-5)

    answers = []
    for number, variant in enumerate(("null", "pt2", VARIANTS[0])):
        out = tmp_path / f"{number}.csv"
        overrides = [f"run={folder}", f"images={corners}", f"out={out}", f"variant={variant}"]
        done = run("src.predict", *overrides)
        assert done.returncode == 0, done.stderr
        with out.open() as file:
            answers.append(list(csv.DictReader(file)))
    name = "labels" if target == "multi" else "label"
    named = [[row[name] for row in one] for one in answers]
    assert named[0] == named[1] == named[2] and len(set(named[0])) > 2
    if not WITH_EXTRA:
        return

    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "exports" / "onnx" / "network.onnx")
    note = session.get_modelmeta().custom_metadata_map
    classes = json.loads(note["class_names"])
    files = sorted(corners.glob("*.png"))
    images = np.stack([np.asarray(Image.open(file))[None] for file in files])
    (probs,) = session.run(["probabilities"], {"images": images})
    if target == "multi":
        columns = [[float(row[one]) for one in classes] for row in answers[0]]
        np.testing.assert_allclose(probs, columns, rtol=0, atol=1e-4)
        kept = json.loads((folder / "checkpoints" / "thresholds.json").read_text())["thresholds"]
        assert json.loads(note["thresholds"]) == kept
        there = [{classes[k] for k in np.flatnonzero(row >= kept)} for row in probs]
        assert there == [set(filter(None, one.split(";"))) for one in named[0]]
    else:
        cuts, places = json.loads(note["thresholds"]), range(len(classes))
        if len(cuts) == 1:
            assert (
                "the lowest above which all classes together are less probable" in note["outputs"]
            )
            found = [next(k for k in places if row[k + 1 :].sum() < cuts[0]) for row in probs]
        elif len(cuts) > len(classes):
            assert "which is the cost of answering k for it" in note["outputs"]
            every = len(classes)
            sums = [
                [sum(row[j] * cuts[j * every + k] for j in places) for k in places] for row in probs
            ]
            found = [row.index(min(row)) for row in sums]
        else:
            expected = [np.average(places, weights=row) for row in probs]
            found = [sum(mean >= cut for cut in cuts) for mean in expected]
        assert [classes[k] for k in found] == named[0]
        stated = [float(row["probability"]) for row in answers[0]]
        own = [row[k] for row, k in zip(probs, found, strict=True)]
        np.testing.assert_allclose(own, stated, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of two sizes with a bright square in each, and the masks of the squares."""
    folder, rng = tmp_path_factory.mktemp("squares") / "squares", np.random.default_rng(0)
    for number in range(40):
        size = ((40, 56), (33, 70))[number % 2]
        pixels, mask = rng.integers(0, 120, size).astype(np.uint8), np.zeros(size, np.uint8)
        top, left = rng.integers(0, 20, 2)
        pixels[top : top + 12, left : left + 12] += 130
        mask[top : top + 12, left : left + 12] = 1
        write_pair(folder, number, pixels, mask)
    return folder


def test_masks_are_answered_by_exported_files(
    squares: Path,
    outputs: Outputs,
    train: Train,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = ["data=folder", f"data.root={squares}", "data.target=dense", "data.fit=windows"]
    data += ["data.image_size=32", "data.batch_size=8"]
    overrides = ["model=fcn", "model.channels=[8,16]", "trainer.max_epochs=20", "trainer.tta=flip"]
    overrides += ["runtime=float32", "tracking.figures=false"]
    home = outputs("squares")
    folder = train(home, *data, *overrides)
    assert run("src.select", f"run={folder.name}", f"output_dir={home}").returncode == 0
    made = [f"variants=[{','.join(VARIANTS)}]", "rounds=2", f"choose={VARIANTS[0]}"]
    result = run("src.export", f"run={folder}", *made)
    assert result.returncode == 0, result.stderr
    record = json.loads((folder / "exports" / "export.json").read_text())
    found = {row["name"]: row for row in record["variants"]}
    assert list(found) == ["pytorch", *VARIANTS] and record["missing"] == {}
    assert found["pytorch"]["milliseconds"].keys() == {"1", "8"}
    for name, row in found.items():  # the original's figures are those of the run's own record
        measured = summary_of(folder)["metrics"]["val/miou"]
        assert row["figure"] == pytest.approx(measured, abs=0.05 if name == "int8" else 1e-4)
        assert row["equal_labels"] >= (0.95 if name == "int8" else 0.9999)
    assert found["pytorch"]["figure"] > 0.8, "it learned something"
    assert "equal pixels" in result.stdout and "mean IoU" in result.stdout
    card = (folder / "model_card.md").read_text()
    assert card.count("## Exported variants") == 1 and f"| {VARIANTS[0]} |" in card
    assert run("src.predict", f"run={folder}", f"images={squares}").returncode == 0, "sealed"

    images = squares / "images"
    for variant in ("null", *VARIANTS):
        out = [f"out={tmp_path / variant}", f"variant={variant}"]
        done = run("src.predict", f"run={folder}", f"images={images}", *out)
        assert done.returncode == 0, done.stderr
    for name, least in [(one, 0.98 if one == "int8" else 0.999) for one in VARIANTS]:
        same = [
            np.asarray(Image.open(file))
            == np.asarray(Image.open(tmp_path / name / "masks" / file.name))
            for file in sorted((tmp_path / "null" / "masks").iterdir())
        ]
        assert len(same) == 40 and {one.shape for one in same} == {(40, 56), (33, 70)}
        assert np.mean([one.mean() for one in same]) >= least
        assert len(list((tmp_path / name / "overlays").iterdir())) == 40

    import mlflow

    # Not `set_tracking_uri`, which sets this variable for all later tests as well.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
    models = dict(rows(home, "select name, artifact_location from logged_models"))
    served = mlflow.pyfunc.load_model(models[VARIANTS[0]])
    file = images / "0.png"
    answer = served.predict([{"image": file.read_bytes()}]).iloc[0]
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))
    wanted = np.asarray(Image.open(tmp_path / VARIANTS[0] / "masks" / file.name))
    np.testing.assert_array_equal(mask, wanted)


def test_a_forest_on_pixels_is_refused(
    squares: Path, run: Run, train: Train, tmp_path: Path
) -> None:
    data = ["data=folder", f"data.root={squares}", "data.target=dense", "data.image_size=32"]
    folder = train(
        *(tmp_path, *data, "model=pixels", "model.pixels=500"),
        *("tracking=none", "tracking.figures=false"),
    )
    result = run("src.export", f"run={folder}", "variants=[pt2]")
    assert result.returncode == 2 and "it has a classifier of pixels" in result.stderr
    assert "out=MASKS" in result.stderr and "recipe=dense" in result.stderr
    assert len(complaints(result.stderr)) == 1 and not (folder / "exports").exists()


def test_a_classifier_on_the_features_of_a_network_is_exported_as_networks_are(
    short_run: Path, run: Run, train: Train, pictures: Path, tmp_path: Path
) -> None:
    overrides = [f"model.run={short_run}", "model.classifier=rbf_svm", "trainer.accelerator=cpu"]
    folder = train(tmp_path, "model=embedding", *overrides, "tracking.figures=false")
    asked = [f"run={folder}", f"variants=[{','.join(VARIANTS)}]", f"choose={VARIANTS[0]}"]
    result = run("src.export", *asked, "rounds=2")
    assert result.returncode == 0, result.stderr
    record = json.loads((folder / "exports" / "export.json").read_text())
    made = {row["name"]: row for row in record["variants"]}
    *originals, own = [name for name in made if name not in VARIANTS]
    assert [*originals, own][0] == "pytorch" and record["missing"] == {}
    assert made[own]["accuracy"] == summary_of(folder)["metrics"]["val/accuracy"]
    rounding = 0.05 if originals else 1e-4  # where its processor has made it choose bfloat16
    assert all(made[name]["largest_difference"] < 0.01 for name in VARIANTS if name != "int8")
    before = labels(run, folder, pictures, tmp_path / "a.csv")
    for name in VARIANTS:
        after = labels(run, folder, pictures, tmp_path / "b.csv", f"variant={name}", "batch_size=7")
        apart = [abs(float(a) - float(b)) for (_, a), (_, b) in zip(before, after, strict=True)]
        assert max(apart) < (0.3 if name == "int8" else rounding)
    assert f"/{VARIANTS[0]} --env-manager local" in result.stdout
    assert {*rows(tmp_path, "select name from logged_models")} == {"model", VARIANTS[0]}


def test_nearest_neighbours_on_the_features_of_a_network_are_refused(
    short_run: Path, run: Run, train: Train, tmp_path: Path
) -> None:
    overrides = [f"model.run={short_run}", "model.classifier=knn", "trainer.accelerator=cpu"]
    folder = train(
        *(tmp_path, "model=embedding", *overrides, "tracking=none", "tracking.figures=false")
    )
    result = run("src.export", f"run={folder}", "variants=[pt2]")
    (sentence,) = complaints(result.stderr)
    assert result.returncode == 2 and "it has model.classifier=knn" in sentence
    assert "model=embedding model.classifier=logistic" in sentence


def test_a_classifier_on_hand_crafted_features_is_refused(
    run: Run, train: Train, tmp_path: Path
) -> None:
    overrides = ["model=handcrafted", "model.features=[raw]", "model.classifier=logistic"]
    folder = train(tmp_path, *overrides, "tracking=none", "tracking.figures=false")
    result = run("src.export", f"run={folder.name}", f"output_dir={tmp_path}", "variants=[pt2]")
    assert result.returncode == 2 and "it has hand-crafted features" in result.stderr
    assert len(complaints(result.stderr)) == 1 and not (folder / "exports").exists()
    file = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(file)
    for variant in ("int8", "chosen"):  # what export refuses is not its remedy
        asked = [f"run={folder.name}", f"output_dir={tmp_path}", f"images={file}"]
        result = run("src.predict", *asked, f"variant={variant}")
        (sentence,) = complaints(result.stderr)
        assert result.returncode == 2 and sentence.endswith("leave variant out."), sentence
        assert "export" not in sentence
