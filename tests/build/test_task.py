from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from src.build import build_data, build_task, load_task
from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.schema import RunSettings
from tests.serving.bundles import network_and_passport


def checkpoint(path: Path, **changes: Any) -> Path:
    """A run's checkpoint, with other words in its model's settings."""
    network, passport = network_and_passport()
    passport["settings"]["model"] |= changes
    passport["settings"]["trainer"]["ema_decay"] = 0.0  # which would bring its own weights
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    state |= {"mean": torch.tensor(passport["mean"]), "std": torch.tensor(passport["std"])}
    torch.save({"epoch": 4, "state_dict": state, "bakeoff": passport}, path)
    return path


def test_a_checkpoint_brings_its_network_back(tmp_path: Path) -> None:
    network, _ = network_and_passport()
    task = load_task(checkpoint(tmp_path / "last.ckpt"))
    assert task.passport["epochs"] == 5 and not task.training
    torch.testing.assert_close(task.network.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("target", ["os.system", "pathlib.Path.unlink", "src.files.replacing"])
def test_a_checkpoint_cannot_name_code_of_its_own(target: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="_target_"):
        load_task(checkpoint(tmp_path / "last.ckpt", _target_=target))


def test_what_is_no_checkpoint_of_a_run_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(ConfigError, match="is not a checkpoint of a Bakeoff run"):
        load_task(tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.stored_views=2", "augment=strong"], r"model\.stored_views is 2, but augment\.mix"),
        (["model.frozen_stages=9"], "frozen_stages is 9"),
    ],
)
def test_frozen_stages_that_cannot_be_are_refused(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path))
    base = ["model=cnn", "data=digits", "runtime=float32", "model.frozen_stages=1"]
    settings = compose_settings(RunSettings, [*base, *words])
    with pytest.raises(ConfigError, match=message):
        build_task(settings, build_data(settings))
