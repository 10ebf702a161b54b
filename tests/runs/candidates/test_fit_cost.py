"""What fitting a classifier to all pictures takes, told from a fit to few of them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from src.config.compose import read_run_settings
from src.config.features import ClassicalSettings
from src.features.calibration import ENOUGH_UNSEEN, CalibratedModel
from src.runs.candidates import fit_cost
from src.runs.candidates.fit_cost import FitSample, fits_of, growth


class Counted(ClassifierMixin, BaseEstimator):
    """Remembers to how many pictures it was fitted."""

    counts: ClassVar[list[int]] = []

    def fit(self, features: Any, targets: Any) -> Counted:
        self.counts.append(len(features))
        self.classes_ = np.unique(targets)
        return self

    def decision_function(self, features: Any) -> Any:
        return np.zeros((len(features), len(self.classes_)))


@pytest.mark.parametrize("count", [100, 6_000, 2 * ENOUGH_UNSEEN, 8 * ENOUGH_UNSEEN])
def test_fits_are_as_many_as_a_calibrated_model_needs(count: int) -> None:
    Counted.counts.clear()
    labels = np.arange(count) % 4
    CalibratedModel.fit(
        lambda _: Counted(),
        *(np.zeros((count, 1), np.float32), labels, np.arange(count)),
        **{"num_classes": 4, "folds": 5, "seed": 0},
    )
    assert fits_of(count, 5) == len(Counted.counts)


@pytest.mark.parametrize(
    ("classifier", "low", "high"),
    [
        *(("logistic", 10, 10), ("nearest_mean", 9, 10), ("random_forest", 14, 15)),
        *(("rbf_svm", 100, 100), ("knn", 100, 100)),
    ],
)
def test_time_grows_with_the_pictures_as_the_classifier_is_made(
    classifier: str, low: float, high: float
) -> None:
    model = read_run_settings(["model=embedding", f"model.classifier={classifier}"]).model
    assert isinstance(model, ClassicalSettings)
    assert low <= growth(model, (200, 50), (2_000, 50)) <= high
    few = replace(model.rbf_svm, exact_up_to=1_000)
    # Beyond that a kernel machine goes through the pictures block by block.
    machine = replace(model, classifier="rbf_svm", rbf_svm=few)
    assert growth(machine, (200, 50), (2_000, 50)) == 50


@pytest.mark.parametrize(
    ("classifier", "times"),
    [("logistic", 8), ("rbf_svm", 8), ("random_forest", 8**0.5), ("nearest_mean", 8)],
)
def test_time_grows_with_the_features_unless_some_of_them_are_selected(
    classifier: str, times: float
) -> None:
    overrides = ["model=handcrafted", f"model.classifier={classifier}", "model.selection=none"]
    model = read_run_settings(overrides).model
    assert isinstance(model, ClassicalSettings)
    found = growth(model, (200, 10_000), (200, 80_000))
    assert found == pytest.approx(times, rel=0.06)
    # Of many pictures the matrix of the features takes nearly all of the time of a nearest mean.
    if classifier == "nearest_mean":
        assert growth(model, (10**6, 100), (10**6, 800)) == pytest.approx(64, rel=0.06)
    assert growth(replace(model, selection="pca", keep=100), (200, 10_000), (200, 80_000)) == 1


def test_what_a_sample_takes_is_scaled_to_all_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock of its own: scaling and selecting take 1 s a hundred pictures, a fit 3 s."""
    now = [0.0]

    class Slow:
        def __init__(self, seconds: float) -> None:
            self.seconds, self.classes_ = seconds, np.arange(2)

        def fit_transform(self, features: Any, labels: Any) -> Any:
            return self.fit(features, labels) and features

        def fit(self, features: Any, labels: Any) -> Slow:
            now[0] += self.seconds * len(features) / 100
            return self

        def decision_function(self, features: Any) -> Any:
            return np.zeros(len(features))

    class Made:
        def __getitem__(self, which: Any) -> Slow:
            return Slow(3.0 if which == -1 else 1.0)

    monkeypatch.setattr(fit_cost, "make_pipeline", lambda *_, **__: Made())
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    overrides = ["model=embedding", "runtime.threads=1", f"data.cache_dir={tmp_path}"]
    kinds = [{"model.classifier": "logistic"}, {"model.classifier": "rbf_svm"}]
    features, labels = np.zeros((100, 3), np.float32), np.arange(100) % 2
    sample = FitSample(read_run_settings(overrides), features, labels, (3,), 1_000)
    (linear, wide), (squared, _) = sample.seconds(kinds, (3, 12))
    # One fit to all and five to four fifths of them.
    assert linear == pytest.approx(4 * (10 + 5 * 8))
    assert squared == pytest.approx(10 + 5 * 8 + 3 * (100 + 5 * 64))
    assert wide == pytest.approx(4 * linear)


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Counts how often fits were timed, each for 2 s; says whether others disturb, and how much."""
    told = SimpleNamespace(count=0, disturbed=False, slower=1.0)

    class Load:
        def __enter__(self) -> SimpleNamespace:
            return told

        def __exit__(self, *_: object) -> None:
            pass

    def timed(_: Any, kinds: Any, widths: Any) -> list[list[float]]:
        told.count += 1
        return [[2.0] for _ in kinds]

    monkeypatch.setattr(fit_cost, "CpuLoad", Load)
    monkeypatch.setattr(fit_cost, "slowdown", lambda: told.slower)
    monkeypatch.setattr(FitSample, "_timed", timed)
    return told


def kept(folder: Path, *overrides: str, count: int = 100, level: float = 0.0) -> float:
    settings = read_run_settings(["model=embedding", f"data.cache_dir={folder}", *overrides])
    features, labels = np.full((10, 3), level, np.float32), np.arange(10) % 2
    kinds = [{"model.classifier": "logistic"}]
    ((seconds,),) = FitSample(settings, features, labels, (3,), count).seconds(kinds, (3,))
    return seconds


def test_what_fits_take_is_timed_once(
    tmp_path: Path, timings: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert kept(tmp_path) == 2 and timings.count == 1
    assert caplog.messages == ["timing 1 kinds of classifiers on some of the pictures"]
    # How long a search may take, and which networks described the pictures, is nothing to a fit.
    assert kept(tmp_path, "model.auto.seconds=7", "model.networks=[resnet18]") == 2
    timings.slower = 3.0
    assert kept(tmp_path) == 6 and timings.count == 1
    assert len(caplog.messages) == 1  # what is kept is not timed


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        ((), {"count": 200}),
        ((), {"level": 1.0}),
        (("model.calibration_folds=3",), {}),
        (("runtime.threads=2",), {}),
    ],
)
def test_what_other_fits_take_is_timed_by_itself(
    tmp_path: Path, timings: SimpleNamespace, overrides: tuple[str, ...], values: dict[str, Any]
) -> None:
    kept(tmp_path, "runtime.threads=1")
    kept(tmp_path, *(overrides or ("runtime.threads=1",)), **values)
    assert timings.count == 2


def test_what_was_timed_beside_other_programs_is_not_kept(
    tmp_path: Path, timings: SimpleNamespace
) -> None:
    timings.disturbed = True
    kept(tmp_path)
    timings.disturbed = False
    kept(tmp_path)
    kept(tmp_path)
    assert timings.count == 2
