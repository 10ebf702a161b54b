"""A class for every pixel: from masks to networks, records, figures and predictions."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import CompareSettings, PredictSettings, SelectSettings
from src.config.metrics import monitored_metrics
from src.config.schema import RunSettings
from src.config.sweep import base_overrides, read_sweep_settings
from src.data.loading.picture_data import PictureData
from src.data.sources.picture_paths import find_pictures
from src.data.splitting.splits import Split
from src.machine.hardware import device_of
from src.records.run import Predictions, RunSummary
from src.reporting.comparison_figures import draw_comparison_figures
from src.reporting.comparison_page import comparison_page
from src.reporting.model_card import model_card
from src.runs.build import build_data, build_task, load_task
from src.runs.candidates.candidate import measure_part
from src.runs.experiment import run_experiment
from src.runs.finished.predict_masks import write_masks
from src.runs.folder import RunFolder
from src.selection.choice import choose, read_chosen
from src.selection.comparison import compared
from src.selection.comparison.report import gather
from src.selection.select import card_facts, select
from src.serving.bundle import open_predictor
from src.serving.masks import masks_of
from src.sweeps.families import load_families, trial_overrides
from src.sweeps.study_pictures import choose_families
from src.targets import kind_of
from src.training.pixels import confusion_matrices, predict_pixels
from tests.data.pictures import write_pair
from tests.serving.test_pixel_bundle import MODELS

pytestmark = pytest.mark.usefixtures("blank_figures")

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
        write_pair(root, number, pixels, classes)
    return root


def settings_of(pictures: Path, *overrides: str) -> RunSettings:
    data = ["data=folder", f"data.root={pictures}", "data.target=dense", "data.ignore=99"]
    places = [
        f"data.cache_dir={pictures.parent / 'cache'}",
        f"output_dir={pictures.parent / 'out'}",
    ]
    model = () if any(override.startswith("model=") for override in overrides) else FCN
    return read_run_settings([*data, *places, *SMALL, *model, *overrides])


@pytest.fixture(scope="module")
def opened(pictures: Path) -> PictureData:
    return build_data(settings_of(pictures))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weights", ["none", "balanced", "root"])
def test_every_loss_of_pixels_learns(
    loss: str, weights: str, pictures: Path, opened: PictureData
) -> None:
    check_step(settings_of(pictures, f"loss={loss}", f"loss.class_weights={weights}"), opened)


@pytest.mark.parametrize("network", MODELS)
def test_every_network_learns_pixels(network: str, pictures: Path, opened: PictureData) -> None:
    check_step(settings_of(pictures, f"model={network}", *MODELS[network]), opened)


def check_step(settings: RunSettings, opened: PictureData) -> None:
    """Check a training step and one of validation."""
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


@pytest.mark.parametrize("key", [key for key in monitored_metrics("dense") if key != "val/loss"])
def test_a_monitored_metric_is_that_of_the_summary_to_the_last_digit(
    key: str, pictures: Path, opened: PictureData
) -> None:
    settings = settings_of(pictures, f"trainer.monitor={key}", "loss=dice")
    task = build_task(settings, opened).eval()
    with torch.inference_mode():
        for number, batch in enumerate(opened.batches("val")):
            task.validation_step(batch, number)
    found = task.totals["val"].read()
    answers, ids = predict_pixels(task, opened.batches("val"), device=CPU)
    expected = measure_part(opened, "val", (answers, opened.pictures.targets[ids], ids)).metrics
    assert found.keys() == {"loss", "miou", "pixel_accuracy", key.removeprefix("val/")}
    assert all(found[name] == expected[f"val/{name}"] for name in found.keys() - {"loss"})


def test_answers_are_those_of_the_pixels_that_count(pictures: Path, opened: PictureData) -> None:
    task = build_task(settings_of(pictures), opened)
    next(task.network.children()).eval()  # as what is frozen
    modes = [module.training for module in task.modules()]
    answers, ids = predict_pixels(task, opened.batches("val"), device=CPU)
    assert [module.training for module in task.modules()] == modes
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
    ("overrides", "message"),
    [
        (["model=cnn"], r"model is cnn.*model=.*fcn"),
        (["model=handcrafted"], "model is handcrafted"),
        (["loss=corn"], "loss is corn"),
        (["augment.mix_probability=1", "augment.cutmix_alpha=1"], "not mixed"),
        (["trainer.tta=shift"], "trainer.tta=flip"),
        (["trainer.monitor=val/accuracy"], "one of auto, miou, dice"),
        (["data.pages=all"], "pages=first"),
    ],
)
def test_what_pixels_do_not_allow_is_refused(
    overrides: list[str], message: str, pictures: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(pictures, *overrides)


@pytest.fixture(scope="module")
def trained(pictures: Path) -> RunSummary:
    overrides = ["trainer.max_epochs=12", "loss=cross_entropy_dice", "optimizer.lr=0.02"]
    summary = run_experiment(settings_of(pictures, *overrides))
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
    device = device_of("auto")
    batches = opened.batches("test")
    answers, ids = predict_pixels(task.to(device), batches, device=device, tta=tta)
    stored = Predictions.read(folder.predictions / "test.parquet")
    np.testing.assert_array_equal(stored.sample_ids, ids)
    differing = np.abs(stored.probs["matrix"] - answers["matrix"]).sum() / 2
    # A GPU may take another algorithm, and with it another class where two are as probable.
    assert differing <= (0 if device == CPU else 1e-3 * answers["matrix"].sum())


def test_the_card_says_what_holds_for_pixels(trained: RunSummary) -> None:
    folder = RunFolder.open(Path(trained.run_dir))
    chosen = read_chosen(folder, changed="refuse")
    predictions = Predictions.read(folder.predictions / "test.parquet")
    facts = card_facts(chosen, chosen, predictions, Split.read(folder.split), 1, None)
    settings = facts.commands["label pictures with it"]
    assert "out=MASKS" in settings and ".csv" not in settings
    card = model_card(facts)
    assert "Classes, test part" in card and "standard errors from influence functions" in card
    assert "alibrat" not in card and "Wilson" not in card


@slow
def test_from_two_runs_to_a_champion_that_writes_masks(
    pictures: Path, trained: RunSummary, tmp_path: Path
) -> None:
    output = f"output_dir={pictures.parent / 'out'}"
    assert (
        run_experiment(settings_of(pictures, "model.channels=[4]", "tracking.figures=false"))
        is not None
    )
    settings = compose_settings(CompareSettings, [output])
    comparison = compared(settings)
    assert comparison.verdict.measure == "miou" and len(comparison.entrants) == 2
    assert comparison.pixels
    assert comparison.verdict.winner.figure == pytest.approx(trained.metrics["val/miou"], abs=1e-5)
    report = gather(comparison, settings)
    page = comparison_page(report)
    shown = page.rpartition("<script")[0]  # and the data, but not the code, which comes last
    assert "mean IoU" in shown and "NaN" not in shown
    names = {path.name for path in draw_comparison_figures(tmp_path, report)}
    assert {"classes.png", "confusion_1.png"} <= names and "reliability.png" not in names

    choice = compose_settings(SelectSettings, [output, "refit=true", "choose=winner"])
    champion = select(choose(choice), choice)
    folder = RunFolder.find(champion.run, pictures.parent / "out")
    card = (folder.path / "model_card.md").read_text()
    assert "mean IoU" in card and "IoU (95 % interval)" in card

    overrides = [f"run={champion.run}", output, f"images={pictures / 'images'}"]
    written = compose_settings(PredictSettings, [*overrides, f"out={tmp_path / 'new'}"])
    found = find_pictures(str(pictures / "images"))
    write_masks(folder.chosen_checkpoint(), found, written)
    with (tmp_path / "new" / "shares.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 40
    right = counted = 0
    predictor = open_predictor(folder.path / "model", CPU)
    for row in rows[:5]:
        mask = np.array(Image.open(tmp_path / "new" / row["mask"]))
        truth = np.array(Image.open(pictures / "masks" / Path(row["path"]).name))
        right += int((mask == truth)[truth != 99].sum())
        counted += int((truth != 99).sum())
        assert sum(float(row[name]) for name in "012") == pytest.approx(1, abs=1e-5)
        assert float(row["1"]) == pytest.approx((mask == 1).mean(), abs=1e-5)
        (served,) = masks_of(predictor, [Path(row["path"]).read_bytes()])
        np.testing.assert_array_equal(served, mask)
    assert right / counted > 0.9
    again = compose_settings(PredictSettings, [*overrides, "coverage=0.9"])
    with pytest.raises(ConfigError, match="coverage"):
        write_masks(folder.chosen_checkpoint(), found, again)


@slow
def test_folds_are_judged_by_their_mean_iou(pictures: Path, tmp_path: Path) -> None:
    overrides = [f"output_dir={tmp_path}", "cv.folds=2", "cv.repeats=2", "loss=cross_entropy_dice"]
    summary = run_experiment(settings_of(pictures, *overrides, "trainer.max_epochs=4"))
    assert summary is not None and summary.folds is not None
    metrics, folds = summary.metrics, summary.folds["val/miou"]
    assert len(folds) == 4 and metrics["val/miou"] == pytest.approx(np.mean(folds))
    assert metrics["val/miou_low"] <= metrics["val/miou"] <= metrics["val/miou_high"]
    predictions = Predictions.read(Path(summary.run_dir) / "predictions" / "val.parquet")
    assert len(predictions.sample_ids) == 32
    once = Predictions.read(Path(summary.run_dir) / "predictions" / "val-repeat1.parquet")
    totals = [one.probs["matrix"].sum(axis=2) for one in (predictions, once)]
    np.testing.assert_array_equal(totals[0], 2 * totals[1])


def test_a_sweep_goes_by_the_mean_iou_of_families_that_give_pixels_a_class(pictures: Path) -> None:
    overrides = [
        f"data.root={pictures}",
        "data.ignore=99",
        f"data.cache_dir={pictures.parent / 'c'}",
    ]
    settings = read_sweep_settings(overrides, "dense")
    assert settings.metrics == ("val/miou",)
    base = base_overrides(overrides, "dense")
    for name in choose_families(settings).names:
        (family,) = load_families([name], base)
        own = read_run_settings(trial_overrides(family, base, {}))
        assert "dense" in own.model.targets and own.data.target == "dense"
    with pytest.raises(ConfigError, match="model is cnn"):
        load_families(["cnn"], base)
    with pytest.raises(ConfigError, match="one of miou, dice"):
        read_sweep_settings([*overrides, "metric=val/accuracy"], "dense")
