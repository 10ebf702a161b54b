from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.config.training import LossSettings
from src.data.loading.picture_data import PictureData
from src.runs.build import build_data, build_task, load_task
from src.runs.build.task import made_loss
from src.targets import kind_of
from src.training.losses import BinaryFocal
from src.training.task import ClassificationTask
from tests.models.caches import in_hub_cache, timm_network, use_empty_caches
from tests.serving.bundles import network_and_metadata


def checkpoint(path: Path, **changes: Any) -> Path:
    """A run's checkpoint, with other words in its model's settings."""
    network, metadata = network_and_metadata()
    metadata["settings"]["model"] |= changes
    metadata["settings"]["trainer"]["ema_decay"] = 0.0  # which would bring its own weights
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    state |= {"mean": torch.tensor(metadata["mean"]), "std": torch.tensor(metadata["std"])}
    torch.save({"epoch": 4, "state_dict": state, "bakeoff": metadata}, path)
    return path


def test_a_checkpoint_brings_its_network_back(tmp_path: Path) -> None:
    network, _ = network_and_metadata()
    task = load_task(checkpoint(tmp_path / "last.ckpt"))
    assert task.metadata["epochs"] == 5 and not task.training
    torch.testing.assert_close(task.network.state_dict(), network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(number: float, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(file, weights_only=True)
    next(value for value in stored["state_dict"].values() if value.ndim > 1).view(-1)[3] = number
    torch.save(stored, file)
    with pytest.raises(ConfigError, match=r"last\.ckpt cannot be used: its weights are damaged"):
        load_task(file)


@pytest.mark.parametrize(
    "target", ["os.system", "pathlib.Path.unlink", "src.storage.files.replacing"]
)
def test_a_checkpoint_cannot_name_code_of_its_own(target: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="_target_"):
        load_task(checkpoint(tmp_path / "last.ckpt", _target_=target))


def test_what_is_no_checkpoint_of_a_run_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(ConfigError, match="is not a checkpoint of a Bakeoff run"):
        load_task(tmp_path / "last.ckpt")


def begun(
    model: str, pretrained: str, folder: Path, earlier: ClassificationTask | None = None
) -> ClassificationTask:
    """The task that a run on the digits (1x8x8 pixels) begins with, or goes on with."""
    overrides = [
        *("data=digits", f"data.cache_dir={folder / 'pictures'}", "model=timm"),
        *(f"model.name={model}", f"model.pretrained={pretrained}", "runtime=float32"),
    ]
    settings = compose_settings(RunSettings, overrides)
    resumed = None if earlier is None else earlier.metadata
    return build_task(settings, build_data(settings), resumed=resumed).eval()


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("pretrained", ["true", "FILE"])
def test_a_pretrained_network_is_rebuilt_at_its_size_without_its_weights(
    model: str, pretrained: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_empty_caches(monkeypatch, tmp_path)
    file = in_hub_cache(f"timm/{model}.r160_in1k", timm_network(model).state_dict())
    task = begun(model, str(file) if pretrained == "FILE" else pretrained, tmp_path)
    assert task.network.input_size == (160, 160)
    file.unlink()
    kept = {"epoch": 0, "state_dict": task.state_dict(), "bakeoff": task.metadata}
    torch.save(kept, tmp_path / "last.ckpt")
    again = load_task(tmp_path / "last.ckpt")
    assert again.network.input_size == (160, 160)
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(again.network(images), task.network(images), rtol=0, atol=0)
    assert again.metadata["network"]["arguments"]["pretrained"] is None
    # So is that of a run that goes on, with the statistics of the weights.
    resumed = begun(model, str(file) if pretrained == "FILE" else pretrained, tmp_path, task)
    assert resumed.network.input_size == (160, 160)
    assert resumed.metadata == task.metadata


def test_from_scratch_pictures_keep_their_size(tmp_path: Path) -> None:
    task = begun("test_resnet", "null", tmp_path)
    assert task.network.input_size is None
    assert task.metadata["network"]["arguments"]["input_size"] is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.stored_views=2", "augment=strong"], r"model\.stored_views is 2, but augment\.mix"),
        (["model.frozen_stages=9"], "frozen_stages is 9"),
    ],
)
def test_frozen_stages_that_cannot_be_are_refused(
    overrides: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path))
    base = ["model=cnn", "data=digits", "runtime=float32", "model.frozen_stages=1"]
    settings = compose_settings(RunSettings, [*base, *overrides])
    with pytest.raises(ConfigError, match=message):
        build_task(settings, build_data(settings))


def test_quarter_turns_are_for_squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path))
    base = ["model=fcn", "data=digits", "runtime=float32", "data.image_size=[8,12]"]
    for turns in ("half", "quarter"):
        settings = compose_settings(RunSettings, [*base, f"augment.turns={turns}"])
        if turns == "quarter":
            with pytest.raises(ConfigError, match=r"12x8 pixels: set augment\.turns=half"):
                build_task(settings, build_data(settings))
        else:
            build_task(settings, build_data(settings))


@pytest.mark.parametrize(
    ("overrides", "refused"),
    [
        (["model=mlp", "model.batch_norm=true", "data.batch_size=1"], True),
        (["model=mlp", "model.batch_norm=false", "data.batch_size=1"], False),
        (["model=cnn", "data.batch_size=1"], False),  # its maps have several places
        (["model=mlp", "model.batch_norm=true", "data.batch_size=2"], False),
        (["model=mlp", "model.batch_norm=true", "data.batch_size=64", "data.limit=3"], True),
    ],
)
def test_a_picture_alone_is_no_batch_to_normalise_over(
    overrides: list[str], refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path))
    settings = compose_settings(RunSettings, ["data=digits", "runtime=float32", *overrides])
    data = build_data(settings)
    if "data.limit=3" in overrides:
        monkeypatch.setattr(PictureData, "samples", 1)
    if not refused:
        before = build_task(settings, data).network.state_dict()
        assert not any(tensor.any() for name, tensor in before.items() if "mean" in name)
        return
    size = settings.data.batch_size
    with pytest.raises(ConfigError, match=f"data.batch_size is {size}, .* needs two pictures"):
        build_task(settings, data)


def test_norms_without_weights_measure_their_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path))
    overrides = ["data=digits", "runtime=float32", "model=cnn", "model.freeze_norm=true"]
    settings = compose_settings(RunSettings, overrides)
    data = build_data(settings)
    task = build_task(settings, data)
    assert all(module.training for module in task.network.modules())
    file = tmp_path / "weights.pt"
    torch.save(task.network.state_dict(), file)
    task = build_task(compose_settings(RunSettings, [*overrides, f"model.pretrained={file}"]), data)
    norms = [m for m in task.network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


def test_a_loss_of_a_plugin_is_not_taken_for_the_one_of_its_name_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = SimpleNamespace(Focal=lambda **given: given)
    monkeypatch.setitem(sys.modules, "own_losses", own)  # type: ignore[arg-type]
    monkeypatch.setattr("src.machine.imports._allowed", {"own_losses"})
    loss = LossSettings(_target_="own_losses.Focal", name="own")
    settings = cast(RunSettings, SimpleNamespace(loss=loss))
    assert made_loss(settings, kind_of("multi"), None) == {"class_weights": None}
    ours = compose_settings(RunSettings, ["model=mlp", "loss=focal"])
    assert isinstance(made_loss(ours, kind_of("multi"), None), BinaryFocal)
