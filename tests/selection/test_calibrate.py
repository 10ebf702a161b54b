"""What calibrates a champion, and that its answers are judged by it."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings, read_run_settings
from src.config.finished import PredictSettings, SelectSettings
from src.config.schema import RunSettings
from src.data.sources.digits import load
from src.data.sources.picture_paths import FoundPictures
from src.machine.text import percent
from src.records.certainty import Certainty, FeatureSample
from src.records.run import Predictions, RunSummary
from src.reporting.certainty_report import card_lines
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import revisit
from src.runs.finished.predict import label_pictures
from src.runs.fold_records import FoldBook, fold_runs, mean_of
from src.runs.folder import FOLDS, RunFolder
from src.runs.seal import amending, changed_since
from src.selection.calibrate import (
    CalibrationBasis,
    calibrate,
    calibration_basis,
    card_certainty,
    features_of,
)
from src.selection.choice import ChosenRun, choose, read_chosen
from src.selection.refit import refit
from src.selection.select import select
from src.serving.bundle import open_predictor
from src.serving.bundle_files import CERTAINTY, write_digest
from src.statistics.conformal import one_of_each_group
from src.statistics.novelty import (
    feature_rows,
    feature_scale,
    neighbour_distances,
    novelty_p_values,
)

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A logistic regression of raw pixels on the digits, chosen and measured."""
    output_dir = tmp_path_factory.mktemp("champion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEOFF_CACHE", str(output_dir / "cache"))
        patch.delenv("BAKEOFF_RUN_FOLDER", raising=False)
        model = ["model=handcrafted", "model.classifier=logistic", "model.features=[raw]"]
        further = ["tracking=none", "tracking.figures=false", "evaluate_test=false"]
        run_experiment(read_run_settings([*model, *further, f"output_dir={output_dir}"]))
        overrides = [f"output_dir={output_dir}", "tracking.enabled=false"]
        (path,) = (output_dir / "runs").iterdir()
        asked = compose_settings(SelectSettings, [f"run={path}", *overrides])
        select(choose(asked), asked)
    return RunFolder.open(path)


def known(folder: RunFolder) -> Certainty:
    found = Certainty.read(folder.path / "model" / CERTAINTY)
    assert found is not None
    return found


def test_the_test_part_calibrates_by_its_one_measurement(champion: RunFolder) -> None:
    found, tested = known(champion), Predictions.read(champion.predictions / "test.parquet")
    assert (found.source, found.candidates, found.refitted) == ("test", 1, False)
    assert found.pictures == len(tested.targets)
    np.testing.assert_array_equal(found.confidences, tested.probs.max(axis=1))
    np.testing.assert_array_equal(found.correct, tested.probs.argmax(axis=1) == tested.targets)
    count = len((champion.output_dir / "test_measurements.jsonl").read_text().splitlines())
    assert count == 1 and changed_since(champion.path, ("*",)) is None


def test_the_bundle_measures_the_same_distances(
    champion: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(champion.output_dir / "cache"))
    predictor, found = open_predictor(champion.path / "model"), known(champion)
    assert predictor.certainty is not None and found.sample is not None
    again = revisit(champion, champion.chosen_checkpoint())
    images = np.stack([again.data.pictures.read(int(i)) for i in again.data.split.test])
    probs, features = predictor.described(images)
    assert features is not None
    # Pictures of several parts, in any order.
    split = again.data.split
    mixed = np.concatenate([split.test[:3], split.train[:2], split.val[:2], split.train[5:6]])
    own = np.stack([again.data.pictures.read(int(i)) for i in mixed])
    of_mixed = features_of(again, mixed)
    assert of_mixed is not None
    np.testing.assert_allclose(of_mixed, predictor.described(own)[1], atol=1e-5)
    rows = feature_rows(features, found.sample.scale)
    np.testing.assert_allclose(
        neighbour_distances(rows, found.sample.rows), found.sample.distances, atol=1e-4
    )
    np.testing.assert_allclose(probs.max(axis=1), found.confidences, atol=1e-5)


def test_of_pictures_that_belong_together_one_calibrates(
    champion: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(champion.output_dir / "cache"))
    again = revisit(champion, champion.chosen_checkpoint())
    tested = Predictions.read(champion.predictions / "test.parquet")
    again.data.groups = np.arange(len(again.data.pictures.targets)) // 5
    found = calibrate(again, CalibrationBasis("test", tested, refitted=False, candidates=1))
    assert len(found.targets) == len(np.unique(tested.sample_ids // 5)) < found.pictures


def test_the_card_shows_what_can_be_promised(champion: RunFolder) -> None:
    shown = card_certainty(known(champion))
    assert shown.answered[0.005] is None and 0.3 < (shown.answered[0.02] or 0) < 1
    assert shown.errors[0.5] < shown.errors[1.0]
    assert "\n".join(card_lines(shown)) in champion.model_card.read_text()


def digits_and_noise(folder: Path, digits: int, noise: int) -> list[str]:
    """The paths of pictures of both, written there."""
    arrays = load(None, folder, False).arrays
    assert arrays is not None
    random = np.random.default_rng(0).integers(0, 256, (noise, 8, 8), dtype=np.uint8)
    files = []
    for number, pixels in enumerate([*arrays[:digits, 0], *random]):
        files.append(str(folder / f"{number:02}.png"))
        Image.fromarray(pixels).save(files[-1])
    return files


def test_predictions_are_judged(champion: RunFolder, tmp_path: Path) -> None:
    files = digits_and_noise(tmp_path, 20, 4)
    overrides = ["run=x", "images=x", "top_k=1", f"out={tmp_path / 'labels.csv'}"]
    settings = compose_settings(PredictSettings, overrides)
    settings = replace(settings, coverage=0.99, max_error=0.02)
    said = label_pictures(champion.chosen_checkpoint(), FoundPictures(files), settings)
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == [
        *("path", "label", "probability", "label_set", "answered", "novelty", "unlike")
    ]
    assert all(row["label"] == row["label_set"].split(";")[0] for row in rows if row["label_set"])
    assert sum(row["unlike"] == "yes" for row in rows[20:]) >= 3
    assert all(row["answered"] == "no" for row in rows if row["unlike"] == "yes")
    answered = sum(row["answered"] == "yes" for row in rows)
    assert 5 <= answered < 22 and f"{answered} of 24 pictures" in said
    assert f"{24 - answered} ({percent((24 - answered) / 24)}) are left to a person" in said
    assert "shift: " in said
    for change, reason in (
        ({"max_error": 0.0001}, "needs at least 29,956"),
        ({"coverage": 0.9999}, "needs 9,999 calibration pictures"),
    ):
        with pytest.raises(ConfigError, match=reason):
            label_pictures(
                champion.chosen_checkpoint(), FoundPictures(files), replace(settings, **change)
            )
    with pytest.raises(ConfigError, match="leave variant out"):
        label_pictures(champion.path, FoundPictures(files), settings)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="carries no calibration"):
        label_pictures(tmp_path / "checkpoints" / "last.ckpt", FoundPictures(files), settings)


def test_what_is_unlike_the_training_pictures_is_not_labelled_before_them(
    champion: RunFolder, tmp_path: Path
) -> None:
    files = digits_and_noise(tmp_path, 40, 20)
    overrides = ["run=x", "images=x", f"out={tmp_path / 'labels.csv'}", "label_next=20"]
    settings = compose_settings(PredictSettings, overrides)
    said = label_pictures(champion.chosen_checkpoint(), FoundPictures(files), settings)
    with (tmp_path / "labels.csv").open(newline="") as file:
        unlike = {row["path"] for row in csv.DictReader(file) if row["unlike"] == "yes"}
    with (tmp_path / "labels_next.csv").open(newline="") as file:
        named = {row["path"] for row in csv.DictReader(file)}
    assert len(unlike & {*files[40:]}) >= 15
    assert len(named) == 20 and not named & unlike
    assert f"{len(unlike)} of 60, 0 of them named" in said


def chosen(folder: RunFolder, *overrides: str) -> ChosenRun:
    summary = RunSummary(
        run_id="0" * 32,
        status="FINISHED",
        name=folder.name,
        model="mlp",
        data="digits",
        seed=0,
        split_fingerprint="f" * 64,
        metrics={},
        num_parameters=1,
        duration_seconds=1.0,
        run_dir=str(folder.path),
        command="",
    )
    summary.write(folder.summary)
    return ChosenRun(folder, compose_settings(RunSettings, [*overrides]), summary)


def predictions(count: int) -> Predictions:
    probs = np.tile(np.float32([[0.9, 0.1]]), (count, 1))
    return Predictions(np.arange(count), None, np.zeros(count, np.int64), probs, ("a", "b"))


def test_which_pictures_calibrate(tmp_path: Path) -> None:
    folders = [RunFolder.create(tmp_path, "mlp", "digits") for _ in range(3)]
    single, folded = chosen(folders[0]), chosen(folders[1], "cv.folds=5")
    refitted = chosen(folders[2])
    elsewhere = chosen(RunFolder.create(tmp_path, "mlp", "digits"))  # of another split
    replace(elsewhere.summary, split_fingerprint="e" * 64).write(elsewhere.folder.summary)
    assert calibration_basis(single, single, None, 0) is None
    for one in (single, folded):
        predictions(50).write(one.folder.predictions / "val.parquet")

    def basis(
        model: ChosenRun, origin: ChosenRun, tested: int | None, looks: int
    ) -> tuple[object, ...]:
        found = calibration_basis(
            model, origin, None if tested is None else predictions(tested), looks
        )
        assert found is not None
        return found.source, found.refitted, found.candidates, len(found.predictions.targets)

    # Three runs were judged on the same validation pictures.
    assert basis(single, single, None, 0) == ("val", False, 3, 50)
    assert basis(refitted, single, None, 0) == ("val", True, 3, 50)
    assert basis(refitted, folded, None, 0) == ("out-of-fold", True, 3, 50)
    assert basis(refitted, folded, 299, 1) == ("out-of-fold", True, 3, 50)
    assert basis(refitted, folded, 300, 1) == ("test", False, 1, 300)
    assert basis(refitted, single, 20, 4) == ("test", False, 4, 20)
    # Trials that were stopped early might have been chosen, too.
    stopped = [chosen(RunFolder.create(tmp_path, "mlp", "digits")) for _ in range(2)]
    for one in stopped:
        replace(one.summary, status="KILLED", reason="pruned").write(one.folder.summary)
    assert basis(single, single, None, 0) == ("val", False, 5, 50)
    # Of a cross-validation that was stopped the first fold says that it is one of these.
    folds = [RunFolder.create(tmp_path, "mlp", "digits") for _ in range(3)]
    for fold in folds:
        summary = chosen(fold).summary
        replace(summary, split_fingerprint="1" * 64, fold=1).write(fold.summary)
    FoldBook(folded.folder.path / FOLDS, [], {1: folds[0].name}).write()
    assert basis(refitted, folded, None, 0) == ("out-of-fold", True, 3, 50)
    # One of each group is drawn: of few groups many pictures are few.
    for groups, source in ((299, "out-of-fold"), (300, "test")):
        tested = replace(predictions(900), groups=np.arange(900) % groups)
        found = calibration_basis(refitted, folded, tested, 1)
        assert found is not None and found.source == source


def test_of_repeats_the_answers_of_one_model_calibrate(tmp_path: Path) -> None:
    """Their mean is right on every picture here, and each of them only on two of three."""
    folded = chosen(RunFolder.create(tmp_path, "mlp", "digits"), "cv.folds=5", "cv.repeats=3")
    whole = predictions(300)
    repeats = []
    for repeat in range(3):
        probs = whole.probs.copy()
        probs[repeat::3] = [0.4, 0.6]
        repeats.append(replace(whole, probs=probs))
        repeats[-1].write(folded.folder.predictions / f"val-repeat{repeat + 1}.parquet")
    mean_of(repeats).write(folded.folder.predictions / "val.parquet")
    found = calibration_basis(folded, folded, None, 0)
    assert found is not None and len(found.predictions.targets) == 300
    assert (found.predictions.decided == found.predictions.targets).mean() == 2 / 3


def network(output_dir: Path, *overrides: str) -> RunFolder:
    """A perceptron of the digits that learns its training pictures by heart."""
    model = ["model=mlp", "model.hidden=[64]", "runtime=float32", "augment=none"]
    further = ["data.batch_size=32", "tracking=none", "tracking.figures=false"]
    summary = run_experiment(
        read_run_settings(
            [*model, *further, "evaluate_test=false", f"output_dir={output_dir}", *overrides]
        )
    )
    assert summary is not None
    return RunFolder.open(Path(summary.run_dir))


def refitted(folder: RunFolder) -> tuple[ChosenRun, ChosenRun]:
    """The refit of a run, and the run itself."""
    one = read_chosen(folder)
    return read_chosen(refit(one.folder, one.settings, one.summary)), one


def test_a_refitted_network_flags_as_many_new_pictures_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows the validation pictures, which lie closer to its training pictures than new ones."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    digits = load(None, tmp_path, False)
    assert digits.arrays is not None
    noise = np.random.default_rng(0).normal(0, 40, digits.arrays[:, 0].shape)
    hidden = np.clip(digits.arrays[:, 0] / 3.0 + noise + 60, 0, 255).astype(np.uint8)
    np.savez(tmp_path / "hidden.npz", images=hidden, labels=digits.targets)
    data = ["data=folder", f"data.root={tmp_path / 'hidden.npz'}", "data.val_fraction=0.25"]
    further = ["data.test_fraction=0.5", "trainer.max_epochs=15"]
    model, one = refitted(network(tmp_path, *data, *further))
    basis = calibration_basis(model, one, None, 0)
    assert basis is not None and basis.source == "val"
    again = revisit(model.folder, model.folder.chosen_checkpoint())
    found, new = calibrate(again, basis), again.data.split.test
    features = features_of(again, new)
    assert found.sample is not None and features is not None and len(new) > 800
    assert not found.sample.comparable, "the refit has twice as many training pictures"

    def share(sample: FeatureSample, p_value: float) -> float:
        distances = neighbour_distances(feature_rows(features, sample.scale), sample.rows)
        return float((novelty_p_values(distances, sample.distances) <= p_value).mean())

    assert share(found.sample, 0.01) <= 0.015 and 0.04 <= share(found.sample, 0.1) <= 0.13
    # By the refit's own distances of pictures that it was trained on, more are.
    known = calibrate(again, replace(basis, refitted=False)).sample
    assert known is not None
    assert share(known, 0.1) > 0.14


def test_distances_compare_where_the_refit_has_little_more_to_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    few = ["data.val_fraction=0.15", "trainer.max_epochs=1"]
    model, one = refitted(network(tmp_path, *few))
    basis = calibration_basis(model, one, None, 0)
    assert basis is not None
    again = revisit(model.folder, model.folder.chosen_checkpoint())
    found = calibrate(again, basis).sample
    assert found is not None and found.comparable


def test_networks_of_folds_measure_the_pictures_that_they_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    whole = network(tmp_path, "cv.folds=2", "cv.repeats=2", "trainer.max_epochs=1")
    model, one = refitted(whole)
    basis = calibration_basis(model, one, None, 0)
    assert basis is not None and basis.source == "out-of-fold"
    again = revisit(model.folder, model.folder.chosen_checkpoint())
    found = calibrate(again, basis)
    groups = np.arange(len(again.data.pictures.targets))
    if again.data.groups is not None:
        groups = again.data.groups
    ids = basis.predictions.sample_ids
    ids = ids[one_of_each_group(groups[ids])]
    assert found.sample is not None and len(found.sample.distances) == len(ids)
    measured = 0
    for run in fold_runs(whole)[:2]:
        fold = revisit(run, run.chosen_checkpoint())
        train, held_out = fold.data.split.train, np.isin(ids, fold.data.split.val)
        reference, features = features_of(fold, train), features_of(fold, ids[held_out])
        assert len(train) <= 1000 and reference is not None and features is not None
        scale = feature_scale(reference)
        rows = feature_rows(reference, scale).astype(np.float16)
        np.testing.assert_allclose(
            neighbour_distances(feature_rows(features, scale), rows),
            found.sample.distances[held_out],
            atol=1e-4,
        )
        measured += int(held_out.sum())
    assert measured == len(ids)
    for run in fold_runs(whole)[::2]:  # both that held out the same pictures
        shutil.rmtree(run.path)
    without = calibration_basis(model, one, None, 0)
    assert without is not None and calibrate(again, without).sample is None


UNTESTED = ["data.test_fraction=0", "tracking=none", "tracking.figures=false"]


def ensemble(members: list[RunFolder]) -> RunFolder:
    """A champion of these cross-validations, which no test part calibrates."""
    output_dir, names = members[0].output_dir, ",".join(one.name for one in members)
    overrides = ["model=ensemble", f"model.runs=[{names}]", "model.way=stacking", *UNTESTED]
    summary = run_experiment(read_run_settings([*overrides, f"output_dir={output_dir}"]))
    assert summary is not None
    place = [f"output_dir={output_dir}", "tracking.enabled=false"]
    asked = compose_settings(SelectSettings, [f"run={summary.run_dir}", *place])
    select(choose(asked), asked)
    return RunFolder.open(Path(summary.run_dir))


def test_an_ensemble_of_folds_knows_the_pictures_that_calibrate_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of its networks but one of each cross-validation were trained on a picture."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    short = ["cv.folds=2", "trainer.max_epochs=1", "data.test_fraction=0"]
    found = known(ensemble([network(tmp_path, *short, f"seed={seed}") for seed in (0, 1)]))
    assert (found.source, found.refitted, found.sample) == ("out-of-fold", True, None)
    assert len(found.targets) > 1700, "those of the training part as well"
    assert "no picture is flagged" in capsys.readouterr().out


def test_features_without_training_are_those_of_every_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    members = []
    for classifier in ("nearest_mean", "ridge"):
        model = ["model=handcrafted", f"model.classifier={classifier}", "model.features=[raw]"]
        overrides = [*model, *UNTESTED, "cv.folds=2", f"output_dir={tmp_path}"]
        summary = run_experiment(read_run_settings(overrides))
        assert summary is not None
        members.append(RunFolder.open(Path(summary.run_dir)))
    found = known(ensemble(members))
    assert (found.source, found.refitted) == ("out-of-fold", True) and found.sample is not None


def test_what_earlier_versions_measured_of_a_refit_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    model, one = refitted(network(tmp_path, "data.test_fraction=0", "trainer.max_epochs=1"))
    asked = compose_settings(
        SelectSettings,
        [
            f"run={one.folder.path}",
            "refit=true",
            f"output_dir={tmp_path}",
            "tracking.enabled=false",
        ],
    )
    select(choose(asked), asked)
    file, today = model.folder.path / "model" / CERTAINTY, known(model.folder)
    assert today.sample is not None and not today.outdated
    with np.load(file) as arrays:
        before = {key: arrays[key] for key in arrays if key != "distances_comparable"}
    with amending(model.folder.path, "model/*"):
        np.savez(file, **before)
        write_digest(file.parent)
    assert known(model.folder).outdated and known(model.folder).sample is None
    select(choose(asked), asked)
    again = known(model.folder)
    assert again.sample is not None and not again.outdated
    np.testing.assert_array_equal(again.sample.distances, today.sample.distances)
    assert changed_since(model.folder.path, ("model/*",)) is None
