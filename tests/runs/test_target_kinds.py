"""Every network, loss and classifier over every kind of targets of whole pictures."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.config.checks import ConfigError, to_plain
from src.config.compose import compose_settings, read_run_settings
from src.config.features import CLASSIFIERS, DESCRIPTORS
from src.config.finished import CompareSettings, PredictSettings, SelectSettings
from src.config.schema import RunSettings
from src.data.augmentation.augment import Augment
from src.data.loading.picture_data import PictureData
from src.data.sources.picture_paths import find_pictures
from src.data.sources.source import Source
from src.features.binary import BinaryModels
from src.features.calibration import CalibratedModel
from src.features.classifier import FeatureClassifier
from src.features.fusion import extractors_of
from src.features.pipeline import make_pipeline
from src.records.run import Predictions
from src.runs.build import build_task
from src.runs.candidates.candidate import Answers, cross_fitted, decided_by, read_thresholds
from src.runs.candidates.network import TrainedNetwork
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import measure, revisit
from src.runs.finished.predict import label_pictures
from src.runs.folder import RunFolder
from src.selection.choice import choose
from src.selection.comparison import compared
from src.selection.select import select
from src.serving.bundle import open_predictor
from src.serving.bundle_writing import write_bundle
from src.serving.predictor import Labelled
from src.serving.trust import Promise, Trust
from src.targets import KINDS, kind_of
from src.training.inference import predict
from src.training.linear_head import fit_linear_head
from tests.features.test_classifier import network_features
from tests.models.test_conformance import ALL, OF_LIBRARIES

pytestmark = pytest.mark.usefixtures("blank_figures")

CLASSES, SIDE, PICTURES = 4, 16, 80
OF_PICTURES = [name for name, kind in KINDS.items() if not kind.pixels]
slow = pytest.mark.slow
QUICK_NETWORKS = ("mlp", "cnn")
# Hundreds of trees for each of several labels take longer than all other classifiers together.
FEWER = {
    "random_forest": ["model.random_forest.trees=20"],
    "gradient_boosting": ["model.gradient_boosting.rounds=20"],
}
FROZEN = "frozen network"
QUICK_CLASSIFIERS, QUICK_LOSSES = ("logistic", "random_forest"), ("asymmetric", "corn")
LOSSES = {
    "single": ("cross_entropy", "focal"),
    "multi": ("cross_entropy", "focal", "asymmetric"),
    "ordinal": ("cross_entropy", "focal", "corn"),
}
SMALL = ("runtime=float32", "trainer.max_epochs=2", "trainer.tta=flip", "tracking=none")


def settings_of(kind: str, *overrides: str) -> RunSettings:
    return read_run_settings([*SMALL, f"data.target={kind}", *overrides])


@pytest.fixture(scope="module", params=OF_PICTURES)
def opened(request: pytest.FixtureRequest) -> PictureData:
    return open_data(request.param)


def open_data(kind: str) -> PictureData:
    """Pictures in which each class brightens a corner, with random labels of one kind."""
    rng = np.random.default_rng(0)
    sets = (rng.random((PICTURES, CLASSES)) < 0.4).astype(np.uint8)
    targets: Any = sets if kind == "multi" else np.arange(PICTURES) % CLASSES
    shown = sets if kind == "multi" else np.eye(CLASSES, dtype=np.uint8)[targets]
    images = rng.integers(0, 100, (PICTURES, 1, SIDE, SIDE)).astype(np.uint8)
    half = SIDE // 2
    for k in range(CLASSES):
        y, x = divmod(k, 2)
        corner = images[:, :, y * half : (y + 1) * half, x * half : (x + 1) * half]
        corner += (150 * shown[:, k]).astype(np.uint8)[:, None, None, None]
    names = tuple(f"{k}" for k in range(CLASSES))
    source = Source("corners", names, targets, arrays=images, kind=kind)
    settings = settings_of(kind, "model=mlp").data
    return PictureData.open(source, settings, native_side=None, batch_size=16, seed=0)


def check_step(settings: RunSettings, data: PictureData) -> None:
    """Check a training step, and that predictions are those of the kind."""
    task = build_task(settings, data)
    batch = next(iter(data.batches("train", training=True)))
    images, targets = task.augmented(batch)
    loss = task.loss(task.network(task.normalized(images)), targets)
    loss.backward()
    assert torch.isfinite(loss)
    grads = [p.grad for p in task.network.parameters() if p.grad is not None]
    assert grads and all(torch.isfinite(grad).all() for grad in grads)
    next(task.network.children()).eval()  # as what is frozen
    modes = [module.training for module in task.modules()]
    probs, found, ids = predict(task, data.batches("val"), device=torch.device("cpu"), tta="flip")
    assert [module.training for module in task.modules()] == modes
    kind = kind_of(data.pictures.kind)
    kind.checked(probs, found)
    np.testing.assert_array_equal(ids, data.split.val)
    assert probs.shape == (len(ids), CLASSES)
    task.validation_step(next(iter(data.batches("val"))), 0)
    assert task.totals["val"].read().keys() == {"loss", "accuracy", kind.primary}


@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=() if name in QUICK_NETWORKS else slow) for name in ALL],
)
def test_every_network_learns_every_kind(network: str, opened: PictureData) -> None:
    model = [f"model={network}", *OF_LIBRARIES.get(network, ())]
    check_step(settings_of(opened.pictures.kind, *model), opened)


@pytest.mark.parametrize("loss", sorted({loss for losses in LOSSES.values() for loss in losses}))
@pytest.mark.parametrize("weights", ["none", "balanced", "root"])
def test_every_loss_learns_its_kinds_and_is_refused_for_others(
    loss: str, weights: str, opened: PictureData
) -> None:
    kind = opened.pictures.kind
    overrides = ["model=mlp", f"loss={loss}", f"loss.class_weights={weights}"]
    if loss not in LOSSES[kind]:
        with pytest.raises(ConfigError, match=f"data.target is {kind}"):
            settings_of(kind, *overrides)
        return
    mixed = [*overrides, "augment.mix_probability=1", "augment.mixup_alpha=0.5"]
    check_step(settings_of(kind, *overrides), opened)
    check_step(settings_of(kind, *mixed), opened)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        pytest.param(kind, loss, marks=() if loss in QUICK_LOSSES else slow)
        for kind in OF_PICTURES
        for loss in LOSSES[kind]
    ],
)
def test_a_bundle_answers_as_its_network_does(kind: str, loss: str, tmp_path: Path) -> None:
    data = open_data(kind)
    task = build_task(settings_of(kind, "model=cnn", "model.widths=[8,8]", f"loss={loss}"), data)
    images = np.stack([data.pictures.read(int(i)) for i in data.split.val])
    expected, _, _ = predict(task, data.batches("val"), device=torch.device("cpu"), tta="flip")
    metadata = {**task.metadata, "thresholds": [0.2] * CLASSES} if kind == "multi" else None
    write_bundle(tmp_path / "model", task.evaluated.eval(), metadata or task.metadata, images[0])
    predictor = open_predictor(tmp_path / "model", torch.device("cpu"))
    np.testing.assert_allclose(predictor.probabilities(images), expected, atol=1e-5)
    assert predictor.kind.name == kind
    if kind == "multi":
        places = predictor.label_sets(expected)
        chosen = [np.flatnonzero(row >= np.float32(0.2)) for row in expected]
        # The most probable label comes first.
        assert places == [
            sorted(c.tolist(), key=lambda k: -row[k])
            for c, row in zip(chosen, expected, strict=True)
        ]


@pytest.mark.parametrize(
    ("classifier", "descriptor"),
    [
        *(
            pytest.param(name, "raw", marks=() if name in QUICK_CLASSIFIERS else slow)
            for name in CLASSIFIERS
        ),
        *(("logistic", name) for name in (*DESCRIPTORS, FROZEN) if name != "raw"),
    ],
)
@pytest.mark.parametrize("kind", ["multi", "ordinal"])
def test_every_classifier_and_descriptor_learns_binary_problems_and_is_read_as_it_was_saved(
    kind: str, classifier: str, descriptor: str, tmp_path: Path
) -> None:
    data = open_data(kind)
    overrides = [f"model.classifier={classifier}", *FEWER.get(classifier, [])]
    overrides += [f"model.features=[{descriptor}]"] if descriptor != FROZEN else []
    overrides += ["model.raw.side=8"] if descriptor == "raw" else []
    model: Any = read_run_settings(["model=handcrafted", *overrides]).model
    plain = to_plain(model)
    images = np.stack([data.pictures.read(int(i)) for i in data.split.train])
    frozen = [network_features(SIDE)]
    extractors = frozen if descriptor == FROZEN else extractors_of([descriptor], plain)
    features = np.concatenate([one(images) for one in extractors], axis=1)
    targets, contents = data.pictures.targets[data.split.train], np.arange(len(images))

    def fit_one(labels: np.ndarray) -> CalibratedModel:
        return CalibratedModel.fit(
            lambda count: make_pipeline(
                model, [features.shape[1]], pictures=count, seed=0, threads=1
            ),
            *(features, labels, contents),
            num_classes=2,
            folds=2,
            seed=0,
        )

    fitted = BinaryModels.fit(kind, targets, CLASSES, fit_one)
    probs = fitted.probabilities(features)
    kind_of(kind).checked(probs, targets)
    least = 0.3 if descriptor == "haralick" else 0.6  # it does not tell places
    names = list(data.pictures.class_names)
    assert kind_of(kind).evaluate(probs, targets, names)[kind_of(kind).primary] > least
    metadata = {
        "settings": {"model": plain},
        "class_names": list(data.pictures.class_names),
    }
    FeatureClassifier(tuple(extractors), fitted, metadata).save(tmp_path / "model.skops")
    again = FeatureClassifier.load(tmp_path / "model.skops")
    np.testing.assert_allclose(again(images), probs, atol=1e-6)


def test_a_label_of_all_or_no_pictures_has_the_probability_that_laplace_gives_it() -> None:
    sets = np.stack([np.ones(8), np.zeros(8)], axis=1).astype(np.uint8)
    model = BinaryModels.fit("multi", sets, 2, lambda labels: pytest.fail("nothing to learn"))
    np.testing.assert_allclose(model.probabilities(np.zeros((3, 5), np.float32)), [[0.9, 0.1]] * 3)


def test_a_fitted_head_of_label_sets_is_a_logistic_regression_a_label() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(60, 3)).astype(np.float32))
    sets = (features[:, :2] + 0.5 * torch.from_numpy(rng.normal(size=(60, 2))) > 0).long()
    folds = [(torch.arange(30), torch.arange(30, 60))]
    together = fit_linear_head(features, sets, num_classes=2, folds=folds)
    expected = torch.nn.functional.binary_cross_entropy_with_logits
    base = float(expected(together(features), sets.float()))
    for step in (0.01, -0.01):  # no label's own weights can be better, but for the penalty
        moved = together(features) * (1 + step)
        assert float(expected(moved, sets.float())) > base - 2e-3
    assert together.held_out_accuracy > 0.7


def test_mixed_label_sets_have_shares_of_both() -> None:
    settings = read_run_settings(
        ["augment.mix_probability=1", "augment.mixup_alpha=1", "augment.cutmix_alpha=0"]
    ).augment
    augment = Augment(settings, num_classes=3)
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    images[1] = 200
    sets = torch.tensor([[1, 1, 0], [0, 1, 0]])
    mixed, targets = augment(images, sets, torch.arange(2), seed=0, epoch=0, step=0)
    share = 1 - mixed[0].float().mean() / 200
    torch.testing.assert_close(targets[0], torch.stack([share, torch.tensor(1.0), share * 0]))


@slow
def test_label_sets_from_a_table_to_labels_of_new_pictures(tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(0), ["path,labels"]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(90):
        labels = [k for k in range(3) if rng.random() < 0.4]
        pixels = rng.integers(0, 90, (24, 24, 3))
        for k in labels:
            pixels[8 * k : 8 * k + 8, :, k] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(pictures / f"{number}.png")
        rows.append(f"{number}.png,{';'.join('abc'[k] for k in labels)}")
    (pictures / "labels.csv").write_text("\n".join(rows))
    output = f"output_dir={tmp_path / 'out'}"
    data = ["data=folder", f"data.root={pictures / 'labels.csv'}", "data.target=multi"]
    for model in (
        ["model=cnn", "model.widths=[8,8]", "trainer.max_epochs=2", "runtime=float32"],
        ["model=handcrafted", "model.features=[colour]", "model.classifier=logistic"],
    ):
        summary = run_experiment(read_run_settings([*data, *model, output, "tracking=none"]))
        assert summary is not None and summary.metrics["test/map"] > 0.3
        run = Path(summary.run_dir)
        said, chosen = Predictions.read(run / "predictions" / "val.parquet"), summary.checkpoint
        of_others, _ = cross_fitted(said, "micro_f1")
        np.testing.assert_array_equal(said.decided, of_others.decided)
        again = revisit(RunFolder.open(run), Path(chosen or ""))
        repeated, _ = measure(again, "val")
        for name in ("val/macro_f1", "val/accuracy"):
            assert repeated.metrics[name] == pytest.approx(summary.metrics[name])
        said = Predictions.read(run / "predictions" / "test.parquet")
        kept = read_thresholds(run / "checkpoints")
        assert kept is not None
        np.testing.assert_array_equal(said.decided, said.probs >= kept.astype(np.float32))
    comparison = compared(compose_settings(CompareSettings, [output]))
    assert comparison.verdict.measure == "map" and len(comparison.entrants) == 2
    settings = compose_settings(SelectSettings, [output, "refit=true", "choose=winner"])
    champion = select(choose(settings), settings)
    folder = RunFolder.find(champion.run, tmp_path / "out")
    assert read_thresholds(folder.checkpoints) is not None  # though nothing is held out of a refit
    overrides = [f"run={champion.run}", output, f"images={pictures}", f"out={tmp_path / 'new.csv'}"]
    overrides += ["coverage=0.5"]
    predict_settings = compose_settings(PredictSettings, overrides)
    asked = folder.chosen_checkpoint(), find_pictures(str(pictures))
    said = label_pictures(*asked, predict_settings)
    assert "label_set: contains on average 50 % of a picture's labels" in said
    with (tmp_path / "new.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert "unlike: 13 calibration pictures are too few" in said
    columns = ["path", "labels", "a", "b", "c", "label_set", "novelty"]
    assert list(found[0]) == columns and len(found) == 90
    # The bundle, which is what is served, names the same sets.
    predictor = open_predictor(folder.path / "model")
    trust = Trust(predictor.certainty, Promise(coverage=0.5))
    assert trust.certainty.of_sets and trust.certainty.source == "test"
    for row, item in zip(found, predictor.label(list(map(Path, asked[1].pictures)), trust=trust)):
        assert isinstance(item, Labelled) and item.judged is not None
        assert row["label_set"] == ";".join(item.judged.label_set or ())
    # One threshold for all labels of all pictures, as six decimals show.
    inside = [float(row[one]) for row in found for one in filter(None, row["label_set"].split(";"))]
    outside = [float(row[k]) for row in found for k in "abc" if k not in row["label_set"]]
    assert inside and outside and min(inside) >= max(outside)
    with pytest.raises(ConfigError, match="max_error is for pictures with one label"):
        label_pictures(*asked, replace(predict_settings, coverage=None, max_error=0.1))


def test_pictures_with_several_labels_are_predicted_once_for_thresholds_and_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, rows = np.random.default_rng(0), ["path,labels"]
    for number in range(40):
        pixels = rng.integers(0, 100, (8, 8, 3)).astype(np.uint8)
        labels = [name for channel, name in enumerate("rgb") if (number >> channel) & 1]
        pixels[..., ["rgb".index(name) for name in labels]] += 120
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{';'.join(labels)}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    parts: list[str] = []
    original = TrainedNetwork.predict

    def counted(self: TrainedNetwork, data: PictureData, part: str) -> Answers:
        parts.append(part)
        return original(self, data, part)

    monkeypatch.setattr(TrainedNetwork, "predict", counted)
    overrides = [
        *("data=folder", f"data.root={tmp_path / 'labels.csv'}", "data.target=multi", "model=mlp"),
        *("runtime=float32", "tracking=none", "tracking.figures=false", "trainer.max_epochs=1"),
        *("trainer.progress=false", f"output_dir={tmp_path / 'out'}", "data.batch_size=16"),
    ]
    summary = run_experiment(read_run_settings(overrides))
    assert summary is not None and summary.status == "FINISHED" and parts == ["val", "test"]
    capsys.readouterr()
    run_experiment(read_run_settings([*overrides, "data.train_on_val=true"]))
    assert "a label is predicted from a probability of one half on" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "target", "answer"),
    [
        ("mlp", "ordinal", "kappa"),
        ("handcrafted", "ordinal", "kappa"),
        ("handcrafted", "ordinal", "mae"),
        ("handcrafted", "single", "balanced_accuracy"),
        ("handcrafted", "single", "cost"),
        ("mlp", "ordinal", "cost"),
    ],
)
def test_classes_are_answered_as_asked_by_files_tables_and_the_served_model(
    model: str, target: str, answer: str, tmp_path: Path
) -> None:
    """For kappa by cuts through the mean, for mae by the median, for balanced accuracy by shares.

    For costs by the least mean one, else with the most probable class.
    """
    rng, rows = np.random.default_rng(0), ["path,label"]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(120):
        grade = min(3, int(rng.exponential(1.2)))
        pixels = np.clip(60 + 20 * grade + rng.normal(0, 25) + rng.normal(0, 4, (8, 8, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(pictures / f"{number}.png")
        rows.append(f"{number}.png,{grade}")
    (pictures / "grades.csv").write_text("\n".join(rows) + "\n")
    of_model = {
        "mlp": [
            *("model=mlp", "loss=corn", "trainer.max_epochs=8", "trainer.progress=false"),
            *("data.batch_size=16", "runtime=float32"),
        ],
        "handcrafted": ["model=handcrafted", "model.features=[raw]", "model.classifier=logistic"],
    }[model]
    overrides = [
        *("data=folder", f"data.root={pictures / 'grades.csv'}", f"data.target={target}"),
        *(*of_model, "tracking=none", "tracking.figures=false", f"output_dir={tmp_path / 'out'}"),
        "data.val_fraction=0.3",
    ]
    costs = np.array([[0, 1, 2, 3], [4, 0, 1, 2], [8, 4, 0, 1], [12, 8, 4, 0]])
    if answer == "cost":
        rows = [",0,1,2,3", *(f"{k},{','.join(map(str, costs[k]))}" for k in range(CLASSES))]
        (tmp_path / "costs.csv").write_text("\n".join(rows) + "\n")
        overrides.append(f"costs={tmp_path / 'costs.csv'}")
    summary = run_experiment(read_run_settings([*overrides, f"data.answer={answer}"]))
    assert summary is not None
    run, kind = Path(summary.run_dir), kind_of(target)
    kept = read_thresholds(run / "checkpoints")
    sizes = {"kappa": CLASSES - 1, "mae": 1, "balanced_accuracy": CLASSES}
    sizes["cost"] = CLASSES**2
    assert kept is not None and kept.shape == (sizes[answer],)
    said = {part: Predictions.read(run / f"predictions/{part}.parquet") for part in ("val", "test")}
    test_probs = said["test"].probs.astype(np.float64)
    if answer == "kappa":
        answers = np.searchsorted(kept, test_probs @ np.arange(CLASSES), side="right")
    elif answer == "balanced_accuracy":
        sums = said["val"].probs.sum(axis=0, dtype=np.float64) + 0.5
        answers = (test_probs / sums).argmax(axis=1)
    elif answer == "cost":
        answers = (test_probs @ costs).argmin(axis=1)
        assert summary.metrics["test/cost"] == costs[said["test"].targets, answers].mean()
        assert summary.metrics["val/cost"] < costs[said["val"].targets].mean(axis=0).min()
    else:  # the class with the least mean distance
        steps = np.arange(CLASSES)
        answers = (test_probs @ np.abs(steps[:, None] - steps)).argmin(axis=1)
    assert (answers != said["test"].probs.argmax(axis=1)).any(), "the two rules differ here"
    np.testing.assert_array_equal(said["test"].decided, answers)
    assert summary.metrics["test/accuracy"] == (answers == said["test"].targets).mean()
    figures = kind.evaluate(said["test"].probs, said["test"].targets, tuple("0123"), kept)
    primary = "kappa" if target == "ordinal" else "balanced_accuracy"
    assert summary.metrics[f"test/{primary}"] == pytest.approx(figures[primary])
    if target == "ordinal":
        assert summary.metrics["test/mae"] == np.abs(answers - said["test"].targets).mean()
    chosen_for = None if answer in ("cost", "mae") else answer
    of_others = decided_by(kept, said["val"], chosen_for)
    np.testing.assert_array_equal(said["val"].decided, of_others.decided)
    again = revisit(RunFolder.open(run), Path(summary.checkpoint or ""))
    assert measure(again, "val")[0].metrics[f"val/{primary}"] == summary.metrics[f"val/{primary}"]

    new = tmp_path / "new.csv"
    asked = [f"run={run}", f"images={pictures}", f"out={new}", "top_k=3"]
    predict_settings = compose_settings(PredictSettings, asked)
    label_pictures(Path(summary.checkpoint or ""), find_pictures(str(pictures)), predict_settings)
    predictor = again.trained.predictor(16)
    names = tuple(again.data.pictures.class_names)
    with new.open(newline="") as stream:
        found = {Path(row["path"]).name: row for row in csv.DictReader(stream)}
    for path, said_class, probs in zip(said["test"].paths or (), answers, said["test"].probs):
        row = found[Path(path).name]
        assert row["label"] == names[said_class]
        assert float(row["probability"]) == pytest.approx(probs[said_class], abs=1e-5)
        others = [row["label_2"], row["label_3"]]
        assert others == [names[k] for k in np.argsort(-probs) if k != said_class][:2]
    np.testing.assert_array_equal(predictor.decided(said["test"].probs), answers)

    plain = run_experiment(read_run_settings(overrides))
    assert plain is not None
    probable = Predictions.read(Path(plain.run_dir) / "predictions" / "test.parquet")
    np.testing.assert_array_equal(probable.decided, probable.probs.argmax(axis=1))
    np.testing.assert_array_equal(probable.probs, said["test"].probs)
    assert not (Path(plain.run_dir) / "checkpoints" / "thresholds.json").exists()
