"""Runs of label sets, and of a class for every pixel, that answer together."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import CompareSettings, EvaluateSettings, PredictSettings, SelectSettings
from src.data.loading.picture_data import PictureData
from src.data.sources.picture_paths import find_pictures
from src.ensembles.combine import Judge, dealt
from src.records.run import Predictions, RunSummary
from src.runs.build import build_data
from src.runs.candidates.choose import load_trained
from src.runs.candidates.network import TrainedNetwork
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import measure_again
from src.runs.finished.predict_masks import write_masks
from src.runs.folder import RunFolder
from src.selection.choice import choose
from src.selection.combined_run import ensemble_of
from src.selection.comparison import compared
from src.selection.select import select
from src.serving.bundle import open_predictor
from src.serving.masks import masks_of
from src.targets import kind_of
from tests.runs.unsealed import copied
from tests.serving.stranger import a_stranger_asks

pytestmark = pytest.mark.usefixtures("blank_figures")

SIDE = 16
QUICK = (
    *("evaluate_test=false", "tracking=none", "tracking.figures=false"),
    "tracking.log_model=false",
)
TRAINING = (
    *("runtime=float32", "trainer.progress=false", "data.batch_size=8", "trainer.tta=none"),
    *("trainer.ema_decay=0", "optimizer.lr=0.02"),
)
MODELS = {
    "multi": [
        *("model=mlp", "model.hidden=[16]", "model.batch_norm=false", "trainer.max_epochs=10"),
        *TRAINING,
    ],
    "dense": [
        *("model=fcn", "model.channels=[8,8]", "trainer.max_epochs=12", "loss=cross_entropy_dice"),
        *TRAINING,
    ],
}


def pictures(root: Path, kind: str) -> Path:
    """Noise with brighter and darker squares: their names are the labels, or their pixels."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rows = []
    for number in range(60):
        pixels = rng.integers(80, 140, (SIDE, SIDE)).astype(np.uint8)
        classes = np.zeros((SIDE, SIDE), np.uint8)
        there = rng.random(2) < 0.6
        for k, value in ((1, 170), (2, 50)):
            if there[k - 1]:
                top, left = rng.integers(0, SIDE - 6, 2)
                pixels[top : top + 6, left : left + 6] += np.uint8((value - 110) % 256)
                classes[top : top + 6, left : left + 6] = k
        classes[:, 5] = 99  # left out
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        Image.fromarray(classes).save(root / "masks" / f"{number}.png")
        rows.append(f"images/{number}.png,{int(there[0])},{int(there[1])}")
    if kind == "dense":
        return root
    shutil.rmtree(root / "masks")
    (root / "labels.csv").write_text("\n".join(["path,bright,dark", *rows]) + "\n")
    return root / "labels.csv"


class Made:
    """Two runs of one kind of targets."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root, self.out = kind, root, root / "out"
        self.overrides = [
            *("data=folder", f"data.root={pictures(root / 'pictures', kind)}"),
            *(f"data.target={kind}", f"data.cache_dir={root / 'cache'}", "data.val_fraction=0.3"),
            *(f"output_dir={self.out}", *QUICK),
        ]
        self.overrides += ["data.ignore=99"] if kind == "dense" else []
        self.runs = [self.train(), self.train("seed=1")]

    def train(self, *overrides: str) -> RunFolder:
        overrides = (
            *self.overrides,
            *(() if "model=pixels" in overrides else MODELS[self.kind]),
            *overrides,
        )
        summary = run_experiment(read_run_settings(overrides))
        assert summary is not None
        return RunFolder.open(Path(summary.run_dir))

    def asked(self, *overrides: str) -> CompareSettings:
        overrides = (f"output_dir={self.out}", *overrides)
        return compose_settings(CompareSettings, overrides)

    def combined(self, runs: list[RunFolder], *overrides: str) -> RunFolder:
        summary = ensemble_of(runs, self.asked(*overrides))
        assert summary is not None
        return RunFolder.open(Path(summary.run_dir))

    def data(self) -> PictureData:
        return build_data(read_run_settings([*self.overrides, *MODELS[self.kind]]))

    def moved(self, name: str, by: float) -> RunFolder:
        """A copy of the first run, its weights moved along one fixed direction."""
        copy = copied(self.runs[0], name)
        file = copy.chosen_checkpoint()
        stored = torch.load(file, weights_only=True)
        generator = torch.Generator().manual_seed(0)
        for key, tensor in stored["state_dict"].items():
            if key.startswith("network.") and key.endswith("weight"):
                tensor += by * tensor.std() * torch.randn(tensor.shape, generator=generator)
        torch.save(stored, file)
        probs, _, _ = load_trained(file).predict(self.data(), "val")
        stated = replace(val(copy), probs=probs, thresholds=None, preds=None)
        stated.write(copy.predictions / "val.parquet")
        return copy


def val(folder: RunFolder) -> Predictions:
    return Predictions.read(folder.predictions / "val.parquet")


def figure(folder: RunFolder) -> float:
    stated = val(folder)
    kind = kind_of(stated.kind)
    found = kind.evaluate(stated.probs, stated.targets, stated.class_names)
    return found[kind.primary]


@pytest.fixture(scope="module", params=["multi", "dense"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(root / "cache"))
        patch.delenv("BAKEOFF_RUN_FOLDER", raising=False)
        return Made(request.param, root)


@pytest.fixture(scope="module")
def ensemble(made: Made) -> RunFolder:
    return made.combined(made.runs, "ensemble=greedy")


def test_it_is_judged_by_the_measure_of_its_kind(made: Made, ensemble: RunFolder) -> None:
    measure = kind_of(made.kind).primary
    summary = RunSummary.read(ensemble.summary)
    assert summary.metrics[f"val/{measure}"] == pytest.approx(figure(ensemble))
    stated, own = val(ensemble), val(made.runs[0])
    np.testing.assert_array_equal(stated.targets, own.targets)
    if made.kind == "dense":  # the pixels of each class that each picture has
        true, expected = (one.probs["matrix"].sum(axis=2) for one in (stated, own))
        np.testing.assert_array_equal(true, expected)
    best = max(figure(one) for one in made.runs)
    assert summary.metrics[f"val/best_member_{measure}"] == pytest.approx(best, abs=0.05)
    assert 0 <= summary.metrics["val/best_member_p_value"] <= 1
    comparison = compared(made.asked())
    (standing,) = [
        one.standing for one in comparison.entrants if one.run_dirs == (str(ensemble.path),)
    ]
    assert comparison.verdict.measure == measure
    assert standing.figure == pytest.approx(figure(ensemble), abs=1e-5)


def test_it_answers_with_the_weighted_mean_of_its_members(
    made: Made, ensemble: RunFolder, tmp_path: Path
) -> None:
    trained = load_trained(ensemble.chosen_checkpoint())
    weights = {one["run"]: one["weight"] for one in trained.metadata["ensemble"]["members"]}
    files = sorted((made.root / "pictures" / "images").iterdir())[:3]
    images = np.stack([np.array(Image.open(file))[None] for file in files])
    expected = sum(
        weights[one.name] * load_trained(one.chosen_checkpoint()).predictor(4).probabilities(images)
        for one in made.runs
        if one.name in weights
    )
    said = trained.predictor(4).probabilities(images)
    assert said.shape == ((3, 3, SIDE, SIDE) if made.kind == "dense" else (3, 2))
    np.testing.assert_allclose(said, expected, atol=1e-5)
    trained.write_bundle(tmp_path / "model", images[0])
    served = open_predictor(tmp_path / "model")
    np.testing.assert_allclose(served.probabilities(images), said, atol=1e-6)


def test_networks_are_averaged_by_the_measure_of_their_kind(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = [made.moved(name, by) for name, by in (("up", 1.5), ("down", -1.5))]
    original = figure(made.runs[0])
    assert max(map(figure, pair)) < original, "the weights were not moved enough"
    soup = made.combined(pair, "ensemble=soup")
    assert "mean of the weights of 2 of 2" in capsys.readouterr().out
    # Stored are held-out answers, of some fifths maybe by one of the two: the model is asked.
    mean = load_trained(soup.chosen_checkpoint())
    answers, targets, _ = TrainedNetwork(mean.task, mean.device).predict(made.data(), "val")
    reached = Judge.usual(made.kind).figure(answers, targets)
    assert reached > max(map(figure, pair))
    if made.kind == "multi":  # the others have batch statistics, which are measured anew
        assert reached == pytest.approx(original, abs=1e-4)
    metrics, _ = measure_again(
        soup,
        soup.chosen_checkpoint(),
        compose_settings(EvaluateSettings, [f"run={soup.path}", "split=test"]),
    )
    assert f"test/{kind_of(made.kind).primary}" in metrics
    for copy in pair:
        shutil.rmtree(copy.path)


@pytest.mark.parametrize("way", ["greedy", "soup"])
def test_pictures_that_go_together_are_dealt_together(
    made: Made, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their groups stand beside the predictions of the runs."""
    pair = [made.moved(name, by) for name, by in (("up", 1.5), ("down", -1.5))]
    for copy in pair:
        stated = val(copy)
        together = np.arange(len(stated.targets)) // 3
        replace(stated, groups=together).write(copy.predictions / "val.parquet")
    units: list[int] = []

    def spied(count: int, folds: int, seed: int, groups: Any = None) -> list[Any]:
        units.append(count if groups is None else len(np.unique(groups)))
        return dealt(count, folds, seed, groups)

    monkeypatch.setattr("src.ensembles.combine.dealt", spied)
    combined = made.combined(pair, f"ensemble={way}")
    assert units and set(units) == {len(np.unique(together))}
    for run in (*pair, combined):
        shutil.rmtree(run.path)


@pytest.mark.slow
def test_masks_of_a_champion_of_networks_and_a_forest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made("dense", tmp_path)
    forest = made.train(
        "model=pixels", "model.pixels=2000", "model.random_forest.trees=20", "runtime.threads=1"
    )
    runs = [*made.runs, forest]
    ensemble = made.combined(runs, "ensemble=true")
    settings = compose_settings(EvaluateSettings, [f"run={ensemble.path}", "split=test"])
    metrics, _ = measure_again(ensemble, ensemble.chosen_checkpoint(), settings)
    assert metrics["test/miou"] > 0.5
    overrides = [f"output_dir={made.out}", f"run={ensemble.name}"]
    choice = compose_settings(SelectSettings, overrides)
    champion = select(choose(choice), choice)
    assert champion.run == ensemble.name
    images = np.random.default_rng(0).integers(0, 256, (2, 1, SIDE, SIDE), np.uint8)
    said, heavy = a_stranger_asks(ensemble.path / "model", images)
    own = load_trained(ensemble.chosen_checkpoint()).predictor(2).probabilities(images)
    np.testing.assert_allclose(said, own, atol=1e-5)
    assert not heavy & {"pytorch_lightning", "hydra", "mlflow"}
    out, folder = tmp_path / "masks", made.root / "pictures" / "images"
    overrides = [f"output_dir={made.out}", "run=champion", f"images={folder}", f"out={out}"]
    found = find_pictures(str(folder))
    predicting = compose_settings(PredictSettings, overrides)
    assert "60 masks" in write_masks(ensemble.chosen_checkpoint(), found, predicting)
    with (out / "shares.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))[:5]
    predictor = open_predictor(ensemble.path / "model")
    for row in rows:
        (served,) = masks_of(predictor, [Path(row["path"]).read_bytes()])
        np.testing.assert_array_equal(np.array(Image.open(out / row["mask"])), served)

    larger = made.train("data.image_size=24")
    with pytest.raises(ConfigError, match="models that take pictures of one size"):
        made.combined([*runs, larger], "ensemble=true", f"runs=[{forest.name},{larger.name}]")
    folds = made.train("cv.folds=2")
    with pytest.raises(ConfigError, match="is a cross-validation"):
        made.combined([*runs, folds], "ensemble=true", f"runs=[{forest.name},{folds.name}]")
    renamed = made.train("data.class_names=[one,two,three]")
    with pytest.raises(ConfigError, match="at least two runs are needed"):
        made.combined([runs[0], renamed], "ensemble=true")
    capsys.readouterr()
    with pytest.raises(ConfigError, match="at least two runs are needed"):
        made.combined([runs[0], folds], "ensemble=true")
    said = capsys.readouterr().out.strip()
    assert said.endswith("left out of it: their folds are not asked again about single pixels.")
