"""A classifier of single pixels as a run: fitted, stored, loaded and measured like any other."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.config.features import PixelsSettings
from src.config.schema import RunSettings
from src.records.run import Predictions, RunSummary
from src.runs.build import build_data
from src.runs.candidates.choose import load_trained, origin_of
from src.runs.candidates.pixels import grown
from src.runs.candidates.settled import settled
from src.runs.experiment import run_experiment
from src.runs.folder import RunFolder
from src.serving.bundle import open_predictor
from src.serving.masks import PredictedMask, predicted_masks
from src.targets import kind_of
from tests.data.pictures import write_pair

pytestmark = pytest.mark.usefixtures("blank_figures")

SIDE = 20


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise with a rough square, as bright as the rest; one column is left out."""
    root, rng = tmp_path_factory.mktemp("pixels") / "squares", np.random.default_rng(0)
    for number in range(20):
        values, classes = rng.normal(120, 4, (SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
        top, left = rng.integers(0, SIDE - 10, 2)
        values[top : top + 10, left : left + 10] = rng.normal(120, 60, (10, 10))
        classes[top : top + 10, left : left + 10] = 1
        classes[:, 3] = 99
        write_pair(root, number, values.clip(0, 255).astype(np.uint8), classes)
    return root


def settings_of(pictures: Path, *overrides: str) -> RunSettings:
    data = ["data=folder", f"data.root={pictures}", "data.target=dense", "data.ignore=99"]
    places = [
        f"data.cache_dir={pictures.parent / 'cache'}",
        f"output_dir={pictures.parent / 'out'}",
        "tracking=none",
    ]
    small = ["model=pixels", "model.random_forest.trees=8", "model.sigma_max=2"]
    return read_run_settings([*data, *places, *small, "data.test_fraction=0.2", *overrides])


@pytest.fixture(scope="module")
def trained(pictures: Path) -> RunSummary:
    summary = run_experiment(settings_of(pictures))
    assert summary is not None
    return summary


def test_a_run_finds_textures_and_leaves_its_record(trained: RunSummary) -> None:
    assert trained.metrics["test/miou"] > 0.7
    assert trained.start == "hand-crafted" and trained.num_parameters
    predictions = Predictions.read(Path(trained.run_dir) / "predictions" / "test.parquet")
    kind = kind_of(predictions.kind)
    again = kind.evaluate(predictions.probs, predictions.targets, predictions.class_names)
    assert again == pytest.approx({key: trained.metrics[f"test/{key}"] for key in again})


def test_a_loaded_model_predicts_as_its_run_did(trained: RunSummary, pictures: Path) -> None:
    folder = RunFolder.open(Path(trained.run_dir))
    model = load_trained(folder.chosen_checkpoint())
    answers, targets, ids = model.predict(build_data(settings_of(pictures)), "test")
    stored = Predictions.read(folder.predictions / "test.parquet")
    np.testing.assert_array_equal(stored.sample_ids, ids)
    np.testing.assert_array_equal(stored.targets, targets)
    np.testing.assert_array_equal(stored.probs["matrix"], answers["matrix"])


def test_the_same_seed_fits_the_same_forest(trained: RunSummary, pictures: Path) -> None:
    again = run_experiment(settings_of(pictures, "tracking.figures=false"))
    assert again is not None
    assert again.metrics["test/log_loss"] == trained.metrics["test/log_loss"]


def test_a_sweep_learns_what_a_fit_will_take(pictures: Path) -> None:
    settings = settings_of(pictures)
    found = settled(settings, build_data, networks=True, seconds=None)
    assert found.settings == settings and found.epochs == 1 and found.seconds_per_epoch > 0
    assert origin_of(settings).start == "hand-crafted"


@pytest.mark.slow
def test_what_a_fit_takes_is_told_before(
    pictures: Path, trained: RunSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features, classifier with its calibration, and the answers; in CPU seconds, for this test.

    What a first run imports is there, as another one was `trained` before.
    """
    from src.runs.candidates import pixels

    monkeypatch.setattr(pixels.time, "perf_counter", time.process_time)
    monkeypatch.setattr(pixels, "_TIMED_PIXELS", (500, 1500))
    settings = settings_of(
        pictures, "model.random_forest.trees=50", "runtime.threads=1", "evaluate_test=false"
    )
    assert isinstance(settings.model, PixelsSettings)
    data = build_data(settings)
    told = pixels.PixelCandidate(settings, settings.model, data).fit_seconds()
    answered: list[str] = []
    took: list[float] = []

    def timed(method: Any) -> Any:
        def call(self: Any, *given: Any) -> Any:
            started = time.process_time()
            found = method(self, *given)
            took[-1] += time.process_time() - started
            answered.extend(given[1:])
            return found

        return call

    for owner, name in ((pixels.PixelCandidate, "fit"), (pixels.TrainedPixels, "predict")):
        monkeypatch.setattr(owner, name, timed(getattr(owner, name)))
    for _ in range(3):  # what else the process is at makes some of them longer, and none shorter
        took.append(0.0)
        assert run_experiment(settings) is not None
    assert answered == ["val"] * 3, "the validation part was answered more than once"
    assert min(took) / 4 < told < 2 * min(took)


def test_a_class_of_few_pixels_is_in_what_is_timed_and_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from src.runs.candidates import pixels

    root, rng = tmp_path / "rare", np.random.default_rng(0)
    for number in range(10):
        classes = np.zeros((SIDE, SIDE), np.uint8)
        classes[0, 0] = 1
        write_pair(root, number, rng.integers(0, 255, (SIDE, SIDE), np.uint8), classes)
    monkeypatch.setattr(pixels, "_TIMED_PIXELS", (2, 200))
    settings = settings_of(root)
    assert isinstance(settings.model, PixelsSettings)
    boosted = replace(settings.model, classifier="gradient_boosting")
    candidate = pixels.PixelCandidate(settings, boosted, build_data(settings))
    assert candidate.fit_seconds() > 0


@pytest.mark.parametrize(
    ("times", "expected"),
    [([1.0, 2.0], 2 * 5.0), ([1.0, 1.0], 1.0), ([1.0, 8.0], 8 * 5**1.2), ([2.0, 1.0], 1.0)],
)
def test_time_grows_as_measured_within_bounds(times: list[float], expected: float) -> None:
    assert grown([100, 200], times, 1000) == pytest.approx(expected)
    assert grown([50, 50], [3.0, 3.0], 100) == pytest.approx(6.0)


def test_large_pictures_are_classified_in_their_size(pictures: Path, tmp_path: Path) -> None:
    overrides = ["data.fit=windows", "data.image_size=16", f"output_dir={tmp_path}"]
    summary = run_experiment(settings_of(pictures, *overrides))
    assert summary is not None and summary.metrics["test/miou"] > 0.7
    predictions = Predictions.read(Path(summary.run_dir) / "predictions" / "test.parquet")
    answer = np.array(Image.open(io.BytesIO(predictions.probs["map"][0])))
    assert answer.shape == (SIDE, SIDE)


def test_masks_of_one_class_are_refused(pictures: Path, tmp_path: Path) -> None:
    root = tmp_path / "plain"
    (root / "masks").mkdir(parents=True)
    (root / "images").symlink_to(pictures / "images")
    for file in (pictures / "images").iterdir():
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(root / "masks" / file.name)
    overrides = [f"data.root={root}", "data.ignore=1", "data.class_names=[a,b]"]
    with pytest.raises(ConfigError, match="one class"):
        run_experiment(settings_of(pictures, *overrides))


def test_its_bundle_gives_the_masks_of_its_run(
    trained: RunSummary, pictures: Path, tmp_path: Path
) -> None:
    model = load_trained(RunFolder.open(Path(trained.run_dir)).chosen_checkpoint())
    data = build_data(settings_of(pictures))
    images = np.stack([data.pictures.read(int(one)) for one in data.split.test])
    model.write_bundle(tmp_path / "model", images[0])
    served = open_predictor(tmp_path / "model").probabilities(images)
    expected = model.predictor(8).probabilities(images)
    assert served.shape == (len(images), 2, SIDE, SIDE)
    np.testing.assert_array_equal(served, expected)
    files = [pictures / "images" / f"{number}.png" for number in range(3)]
    masks = [
        found.classes
        for found in predicted_masks(open_predictor(tmp_path / "model"), files)
        if isinstance(found, PredictedMask)
    ]
    truth = [np.array(Image.open(pictures / "masks" / file.name)) for file in files]
    counted = np.stack(truth) != 99
    assert (np.stack(masks) == np.stack(truth))[counted].mean() > 0.85
