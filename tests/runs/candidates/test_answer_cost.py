"""What a network's latency is of: the answer that it is judged by, with all of its passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from src.config.compose import read_run_settings
from src.config.features import PixelsSettings
from src.features.classifier import FeatureClassifier
from src.machine.interruption import Interruption
from src.runs.build import build_data, build_task
from src.runs.candidates.candidate import FitContext
from src.runs.candidates.network import TrainedNetwork
from src.runs.candidates.pixels import PixelCandidate
from src.runs.folder import RunFolder
from src.serving.whole_network import network_classifier
from src.training import cost
from tests.data.pictures import write_pair

DIGITS = ["data=digits", "data.limit=60", "model=mlp"]


def windowed(root: Path) -> list[str]:
    """Pictures of three sizes, most of them 96 x 130, that are taken in windows of 32 x 32."""
    for number in range(10):
        size = {0: (40, 40), 1: (150, 190)}.get(number, (96, 130))
        pixels = np.full(size, 20 * number, np.uint8)
        write_pair(root, number, pixels, (pixels > 90).astype(np.uint8))
    return [
        *("data=folder", f"data.root={root}", "data.target=dense", "data.fit=windows"),
        *("data.image_size=32", "model=fcn", "model.channels=[8,16]"),
    ]


@pytest.mark.parametrize(
    ("described", "tta", "size", "passes"),
    [
        (lambda root: DIGITS, "none", (8, 8), 1),
        (lambda root: DIGITS, "flip", (8, 8), 2),
        (lambda root: DIGITS, "flip_shift", (8, 8), 6),
        (windowed, "none", (96, 130), 5 * 8),  # as they overlap by a half: 16 pixels apart
        (windowed, "flip", (96, 130), 2 * 5 * 8),
    ],
)
def test_the_answer_is_timed_that_is_given(
    described: Callable[[Path], list[str]],
    tta: str,
    size: tuple[int, int],
    passes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = [*described(tmp_path / "pictures"), "runtime=float32", f"trainer.tta={tta}"]
    settings = read_run_settings([*overrides, f"data.cache_dir={tmp_path / 'cache'}"])
    data = build_data(settings)
    trained = TrainedNetwork(build_task(settings, data), torch.device("cpu"))
    seen: list[torch.Size] = []
    trained.task.evaluated.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    answer = network_classifier(trained.task.evaluated, trained.metadata, trained.device)
    answer(np.zeros((1, data.pictures.channels, *size), np.uint8))
    given, timed = [*seen], list[list[torch.Size]]()

    def once(call: Callable[[], float], *_: object) -> cost.Timing:
        seen.clear()
        call()
        timed.append([*seen])
        return cost.Timing(0.5)

    monkeypatch.setattr(cost, "timed", once)
    checkpoint = tmp_path / "last.ckpt"
    checkpoint.write_bytes(b"")
    found = trained.cost(data, checkpoint)
    assert timed[0] == given and sum(shape[0] for shape in given) == passes == found["passes"]
    assert found["latency_ms"] == 500 and found["throughput"] >= 2
    height, width = data.pictures.image_size
    channels = data.pictures.channels
    assert found["flops"] == cost.count_flops(trained.task.evaluated, (channels, height, width))


def test_a_forest_on_pixels_is_timed_on_a_whole_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [
        override for override in windowed(tmp_path / "pictures") if not override.startswith("model")
    ]
    overrides += ["model=pixels", "model.pixels=200", f"data.cache_dir={tmp_path / 'cache'}"]
    settings = read_run_settings([*overrides, f"output_dir={tmp_path}"])
    data = build_data(settings)
    assert isinstance(settings.model, PixelsSettings)
    folder = RunFolder.create(tmp_path, "pixels", "pictures")
    with Interruption() as interruption:
        context = FitContext(folder, None, interruption)
        fitted = PixelCandidate(settings, settings.model, data).fit(context)
    seen: list[tuple[int, ...]] = []
    answer = FeatureClassifier.__call__

    def noted(self: FeatureClassifier, images: np.ndarray) -> np.ndarray:
        seen.append(images.shape)
        return answer(self, images)

    monkeypatch.setattr(FeatureClassifier, "__call__", noted)
    monkeypatch.setattr(cost, "_BUDGET_SECONDS", 0.0)
    found = fitted.trained.cost(data, fitted.checkpoint)
    assert {*seen} == {(1, data.pictures.channels, 96, 130)} and found["passes"] == 1
