"""How fast frozen networks describe pictures is measured once on a machine, and then kept."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.features.embedding import NetworkFeatures
from src.models.cnn import CNN
from src.runs.build import build_data, model_metadata
from src.runs.candidates import trained_classifier
from src.runs.candidates.trained_classifier import TrainedClassifier
from src.storage.digests import checked_line, line_content
from tests.features.classifiers import classifier

SECONDS = 2e-3  # of a picture
ARGUMENTS = {"widths": [8, 16], "blocks": 1, "dropout": 0.0}


class Slow(CNN):
    """Counts its passes, each of which takes a known time a picture, by the clock of `slow`."""

    passes = 0
    taken = 0.0

    def forward(self, images: Tensor) -> Tensor:
        Slow.passes += 1
        Slow.taken += SECONDS * len(images)
        return super().forward(images)

    def __deepcopy__(self, memo: object) -> Slow:
        return self


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PictureData:
    overrides = [f"data.cache_dir={tmp_path_factory.mktemp('digits')}"]
    return build_data(compose_settings(RunSettings, overrides))


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network's time passes without a wait, and other programs change no result."""
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + Slow.taken)
    monkeypatch.setattr(trained_classifier, "time", clock)
    monkeypatch.setattr(trained_classifier, "is_idle", lambda: False)


def measured(
    data: PictureData, folder: Path, *overrides: str, **changes: object
) -> dict[str, float]:
    """Measure a classifier on the features of a fresh network; return its cost and its passes."""
    metadata = {
        "target": "src.models.cnn.CNN",
        "arguments": ARGUMENTS,
        "channels": 1,
        "classes": 10,
        "image_size": [8, 8],
        "mean": [0.3],
        "std": [0.4],
        **changes,
    }
    network = NetworkFeatures(Slow(1, 10, (8, 8), **ARGUMENTS), metadata, torch.device("cpu"))
    made = classifier("model.classifier=logistic", extractors=[network])
    chosen = [f"data.cache_dir={folder}", "model=embedding", "runtime.threads=1", *overrides]
    settings = compose_settings(RunSettings, chosen)
    made = replace(made, metadata=model_metadata(settings, data))
    made.save(folder / "model.skops")
    before = Slow.passes
    cost = TrainedClassifier(made, folder / "model.skops").cost(data, folder / "model.skops")
    return cost | {"passes": Slow.passes - before}


def test_a_second_trial_times_its_classifier_alone(data: PictureData, tmp_path: Path) -> None:
    first, second = measured(data, tmp_path), measured(data, tmp_path)
    assert first["passes"] > 3 and second["passes"] == 0
    for cost in (first, second):
        assert 1e3 * SECONDS < cost["latency_ms"] < 1e4 * SECONDS
        assert 0.1 / SECONDS < cost["throughput"] < 1 / SECONDS
    assert second["parameters"] == first["parameters"]


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (("runtime.threads=2",), {}),
        ((), {"precision": "bfloat16"}),
        ((), {"arguments": ARGUMENTS | {"dropout": 0.5}}),
    ],
)
def test_other_arithmetic_is_measured_by_itself(
    data: PictureData, tmp_path: Path, overrides: tuple[str, ...], changes: dict[str, object]
) -> None:
    measured(data, tmp_path)
    assert measured(data, tmp_path, *overrides, **changes)["passes"] > 0
    assert measured(data, tmp_path, *overrides, **changes)["passes"] == 0
    assert measured(data, tmp_path)["passes"] == 0


def test_no_other_machine_takes_it(
    data: PictureData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(data, tmp_path)
    monkeypatch.setattr("src.machine.hardware.processor", lambda: "another")
    assert measured(data, tmp_path)["passes"] > 0


@pytest.mark.parametrize(
    ("disturbed", "idle", "again"), [(False, True, False), (True, False, False), (True, True, True)]
)
def test_what_was_measured_beside_others_is_marked_and_measured_again_on_an_idle_machine(
    data: PictureData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    disturbed: bool,
    idle: bool,
    again: bool,
) -> None:
    measured(data, tmp_path)
    (kept,) = tmp_path.rglob("speed-*.json")
    record = line_content(kept.read_bytes())
    found = record["found"] | {"others": 1.5 if disturbed else 0.0}
    kept.write_bytes(checked_line(record | {"found": found, "disturbed": disturbed}))
    monkeypatch.setattr(trained_classifier, "is_idle", lambda: idle)
    cost = measured(data, tmp_path)
    assert (cost["passes"] > 0) == again
    if not again:
        assert cost.get("latency_others") == (1.5 if disturbed else None)
