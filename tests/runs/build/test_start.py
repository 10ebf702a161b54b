"""What a training begins with; the fitted head of real weights is in test_finetune.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.data.loading.loaders import Batch
from src.data.loading.picture_data import PictureData
from src.runs import build, resolve
from src.training.stepper import Stepper

OVERRIDES = [
    "data=digits",
    "data.limit=200",
    "data.batch_size=16",
    "runtime=float32",
    "tracking=none",
]
OVERRIDES += ["tracking.figures=false", "tracking.log_model=false", "evaluate_test=false"]
OVERRIDES += ["runtime.threads=1", "trainer.progress=false"]


def begun(
    overrides: list[str], data: PictureData | None = None
) -> tuple[PictureData, dict[str, torch.Tensor]]:
    """The pictures, and the network with which a training of these settings begins."""
    settings = read_run_settings([*OVERRIDES, *overrides])
    data = data or build.build_data(settings)
    task = build.build_task(settings, data)
    build.start_network(task, settings, data, torch.device("cpu"))
    return data, {name: tensor.clone() for name, tensor in task.network.state_dict().items()}


@pytest.mark.parametrize("model", ["whitened", "cnn"])
def test_a_file_s_weights_are_what_training_begins_with(model: str, tmp_path: Path) -> None:
    _, trained = begun([f"model={model}", "seed=1"])
    file = tmp_path / "weights.pt"
    torch.save(trained, file)
    for seed in (2, 3):  # other batches, and another draw of what would start afresh
        overrides = [f"model={model}", f"seed={seed}", f"model.pretrained={file}"]
        _, found = begun([*overrides, "model.head_start=random"])
        same = {name for name in found if torch.equal(found[name], trained[name])}
        heads = {name for name in found if name.startswith("head.")}
        assert set(found) - same == heads


def test_a_range_test_begins_where_training_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def noted(stepper: Stepper, batches: Iterator[Batch], accumulate: int) -> None:
        seen.extend([stepper.task.network.state_dict(), accumulate])
        raise ValueError("enough")

    monkeypatch.setattr(resolve, "range_test", noted)
    overrides = ["model=whitened", "trainer.accumulate_batches=1000"]
    data, expected = begun(overrides)
    with pytest.raises(ConfigError, match="enough"):
        resolve.resolve(read_run_settings([*OVERRIDES, *overrides, "find_lr=true"]), data)
    torch.testing.assert_close(seen[0], expected)
    assert seen[1] == len(data.batches("train", training=True))  # type: ignore[arg-type]

    file = tmp_path / "weights.pt"
    torch.save(begun(["model=cnn"], data)[1], file)
    overrides = ["model=cnn", f"model.pretrained={file}", "find_lr=true"]
    with pytest.raises(ConfigError, match="begins from a fitted head"):
        resolve.resolve(read_run_settings([*OVERRIDES, *overrides]), data)
    with pytest.raises(ConfigError, match="enough"):
        resolve.resolve(
            read_run_settings([*OVERRIDES, *overrides, "model.head_start=random"]), data
        )
