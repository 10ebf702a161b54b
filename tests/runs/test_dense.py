"""A class for every pixel: from masks to networks, records, figures and predictions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.records.run import Predictions, RunSummary
from src.runs.build import build_data, build_task, load_task
from src.runs.experiment import run_experiment
from src.runs.folder import RunFolder
from src.targets import kind_of
from src.training.pixels import confusion_matrices, predict_pixels

slow = pytest.mark.slow
SIDE, CPU = 24, torch.device("cpu")
SMALL = (
    *("runtime=float32", "trainer.max_epochs=2"),
    *("data.batch_size=8", "data.val_fraction=0.2", "data.test_fraction=0.2", "tracking=none"),
)
FCN = ("model=fcn", "model.channels=[8,8]")
LOSSES = ("cross_entropy", "focal", "dice", "cross_entropy_dice")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise with a bright and a dark square in two of three pictures; a column is left out."""
    root, rng = tmp_path_factory.mktemp("dense") / "squares", np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(40):
        pixels = rng.integers(90, 130, (SIDE, SIDE)).astype(np.uint8)
        classes = np.zeros((SIDE, SIDE), np.uint8)
        for k, value in ((1, 230), (2, 10)):
            if number % 3 == 0 and k == 1:
                continue
            top, left = rng.integers(0, SIDE - 9, 2)
            pixels[top : top + 9, left : left + 9] = value
            classes[top : top + 9, left : left + 9] = k
        classes[:, 5] = 99
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        Image.fromarray(classes).save(root / "masks" / f"{number}.png")
    return root


def settings_of(pictures: Path, *words: str) -> RunSettings:
    data = ["data=folder", f"data.root={pictures}", "data.target=dense", "data.ignore=99"]
    places = [
        f"data.cache_dir={pictures.parent / 'cache'}",
        f"output_dir={pictures.parent / 'out'}",
    ]
    model = () if any(word.startswith("model=") for word in words) else FCN
    return read_run_settings([*data, *places, *SMALL, *model, *words])


@pytest.fixture(scope="module")
def opened(pictures: Path) -> PictureData:
    return build_data(settings_of(pictures))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_every_loss_of_pixels_learns(
    loss: str, weights: str, pictures: Path, opened: PictureData
) -> None:
    settings = settings_of(pictures, f"loss={loss}", f"loss.class_weights={weights}")
    task = build_task(settings, opened)
    batch = next(iter(opened.batches("train", training=True)))
    assert batch.targets.shape == (8, SIDE, SIDE) and batch.targets.min() == -100
    images, targets = task.augmented(batch)
    value = task.loss(task.network(task.normalized(images)), targets)
    value.backward()
    grads = [p.grad for p in task.network.parameters() if p.grad is not None]
    assert torch.isfinite(value) and all(torch.isfinite(grad).all() for grad in grads)
    task.validation_step(next(iter(opened.batches("val"))), 0)
    assert task.totals["val"].read().keys() == {"loss", "miou", "pixel_accuracy"}


def test_answers_are_those_of_the_pixels_that_count(pictures: Path, opened: PictureData) -> None:
    task = build_task(settings_of(pictures), opened)
    answers, ids = predict_pixels(task, opened.batches("val"), device=CPU)
    store = opened.pictures
    images = np.stack([store.read(int(i)) for i in ids])
    masks = np.stack([store.read_mask(int(i)) for i in ids])
    with torch.inference_mode():
        logits = task.eval()(torch.from_numpy(images)).double()
    preds = logits.argmax(dim=1).numpy()
    counted = masks != 255
    kind = kind_of("dense")
    found = kind.evaluate(answers, store.targets[ids], store.class_names)
    expected = jaccard_score(masks[counted], preds[counted], average="macro")
    assert found["miou"] == pytest.approx(expected)
    log_probs = logits.log_softmax(dim=1).numpy()
    for row in range(len(ids)):
        own = log_probs[row][masks[row][counted[row]], *np.nonzero(counted[row])]
        assert answers["log_loss"][row] == pytest.approx(-own.mean(), rel=1e-4)
        np.testing.assert_array_equal(
            np.array(Image.open(io.BytesIO(answers["map"][row]))), preds[row]
        )


def test_mirrored_views_are_mirrored_back(pictures: Path, opened: PictureData) -> None:
    """A network without any neighbourhood answers each pixel alike, however it is mirrored."""
    task = build_task(settings_of(pictures, "trainer.ema_decay=0"), opened)
    task.network = torch.nn.Conv2d(opened.pictures.channels, 3, 1)
    batches = opened.batches("val")
    plain, _ = predict_pixels(task, batches, device=CPU)
    flipped, _ = predict_pixels(task, batches, device=CPU, tta="flip")
    np.testing.assert_array_equal(plain["matrix"], flipped["matrix"])
    np.testing.assert_allclose(plain["log_loss"], flipped["log_loss"], rtol=1e-5)


def test_confusion_matrices_count_each_picture_by_itself() -> None:
    targets = torch.tensor([[[0, 1], [-100, 1]], [[2, 2], [2, 0]]])
    preds = torch.tensor([[[0, 0], [1, 1]], [[2, 1], [2, 0]]])
    expected = [
        [[1, 0, 0], [1, 1, 0], [0, 0, 0]],
        [[1, 0, 0], [0, 0, 0], [0, 1, 2]],
    ]
    assert confusion_matrices(preds, targets, 3).tolist() == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=cnn"], r"model is cnn.*model=.*fcn"),
        (["model=handcrafted"], "model is handcrafted"),
        (["loss=corn"], "loss is corn"),
        (["augment.mix_probability=1", "augment.cutmix_alpha=1"], "not mixed"),
        (["trainer.tta=shift"], "trainer.tta=flip"),
        (["trainer.monitor=val/accuracy"], "val/miou"),
        (["data.pages=all"], "pages=first"),
    ],
)
def test_what_pixels_do_not_allow_is_refused(
    words: list[str], message: str, pictures: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(pictures, *words)


@pytest.fixture(scope="module")
def trained(pictures: Path) -> RunSummary:
    words = ["trainer.max_epochs=12", "loss=cross_entropy_dice", "optimizer.lr=0.02"]
    summary = run_experiment(settings_of(pictures, *words))
    assert summary is not None
    return summary


def test_a_run_learns_squares_and_leaves_its_record(trained: RunSummary) -> None:
    metrics, folder = trained.metrics, Path(trained.run_dir)
    assert metrics["test/miou"] > 0.6
    assert metrics["test/miou_low"] < metrics["test/miou"] < metrics["test/miou_high"]
    predictions = Predictions.read(folder / "predictions" / "test.parquet")
    kind = kind_of(predictions.kind)
    again = kind.evaluate(predictions.probs, predictions.targets, predictions.class_names)
    assert again == pytest.approx({key: metrics[f"test/{key}"] for key in again})
    assert predictions.class_names == ("0", "1", "2")
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert {"test_mistakes.png", "test_classes.csv", "learning_curves.png"} <= drawn


def test_a_checkpoint_predicts_as_its_run_did(trained: RunSummary, opened: PictureData) -> None:
    folder = RunFolder.open(Path(trained.run_dir))
    task = load_task(folder.chosen_checkpoint())
    tta = task.metadata["settings"]["trainer"]["tta"]
    answers, ids = predict_pixels(task, opened.batches("test"), device=CPU, tta=tta)
    stored = Predictions.read(folder.predictions / "test.parquet")
    np.testing.assert_array_equal(stored.sample_ids, ids)
    np.testing.assert_array_equal(stored.probs["matrix"], answers["matrix"])
