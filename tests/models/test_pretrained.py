from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.models.cnn import CNN
from src.models.mlp import MLP
from src.models.pretrained import adapt_input, check_weights, load_weights, read_weights
from src.models.zoo import TorchvisionNet
from tests.models.code import Code


def cnn(channels: int = 3, classes: int = 4, seed: int = 0) -> CNN:
    torch.manual_seed(seed)
    return CNN(channels, classes, (8, 8), widths=[4, 8], blocks=1, dropout=0.0).eval()


def as_safetensors(state: dict[str, Tensor], folder: Path) -> Path:
    from safetensors.torch import save_file

    save_file(state, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def as_torch(content: Any, folder: Path) -> Path:
    torch.save(content, folder / "weights.pt")
    return folder / "weights.pt"


def as_run(state: dict[str, Tensor], folder: Path) -> Path:
    entries = {f"network.{name}": tensor for name, tensor in state.items()}
    entries["loss.weight"] = torch.ones(4)
    return as_torch({"state_dict": entries, "epoch": 3}, folder)


def as_wrapped(state: dict[str, Tensor], folder: Path) -> Path:
    return as_torch({f"module.{name}": tensor for name, tensor in state.items()}, folder)


@pytest.mark.parametrize("write", [as_safetensors, as_torch, as_run, as_wrapped])
def test_a_file_of_any_kind_brings_its_network_back(
    write: Callable[[dict[str, Tensor], Path], Path], tmp_path: Path
) -> None:
    trained, network = cnn(seed=1), cnn(seed=2)
    loaded = load_weights(network, str(write(trained.state_dict(), tmp_path)))
    assert loaded is not None
    assert loaded.used == len(trained.state_dict()) and loaded.fresh == ()
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(network(images), trained(images), rtol=0, atol=0)


def test_averaged_weights_of_a_run_come_first(tmp_path: Path) -> None:
    averaged, network = cnn(seed=1), cnn(seed=2)
    entries = {f"network.{name}": t for name, t in cnn(seed=3).state_dict().items()}
    entries |= {f"average.network.{name}": t for name, t in averaged.state_dict().items()}
    load_weights(network, str(as_torch({"state_dict": entries}, tmp_path)))
    torch.testing.assert_close(network.state_dict(), averaged.state_dict(), rtol=0, atol=0)


def test_a_head_for_other_classes_starts_afresh(tmp_path: Path) -> None:
    path = as_torch(cnn(classes=4, seed=1).state_dict(), tmp_path)
    network = cnn(classes=7, seed=2)
    before = network.head.weight.clone()
    loaded = load_weights(network, str(path))
    assert loaded is not None and loaded.fresh == ("head.weight", "head.bias")
    torch.testing.assert_close(network.head.weight, before, rtol=0, atol=0)


def test_weights_of_colour_pictures_serve_grey_ones(tmp_path: Path) -> None:
    coloured, grey = cnn(channels=3, seed=1), cnn(channels=1, seed=2)
    loaded = load_weights(grey, str(as_torch(coloured.state_dict(), tmp_path)))
    assert loaded is not None and loaded.fresh == ()
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(grey(images), coloured(images.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_an_adapted_convolution_answers_flat_grey_as_before(channels: int) -> None:
    weight = torch.randn(5, 3, 1, 1).abs()
    adapted = adapt_input(weight, channels)
    assert adapted.shape == (5, channels, 1, 1)
    if channels in (1, 3):
        torch.testing.assert_close(adapted.sum(1), weight.sum(1))
    for channel in range(channels if channels > 1 else 0):
        torch.testing.assert_close(adapted[:, channel], weight[:, channel % 3] * 3 / channels)


def test_a_library_s_own_file_fits_its_network(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    original = resnet18().eval()
    path = as_torch(original.state_dict(), tmp_path)
    network = TorchvisionNet(
        3,
        1000,
        (32, 32),
        name="resnet18",
        pretrained=str(path),
        input_size=None,
        stem="auto",
        drop_rate=0.0,
    ).eval()
    load_weights(network, str(path))
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(network(images), original(images))


@pytest.mark.parametrize("nothing", [None, False])
def test_without_weights_nothing_changes(nothing: bool | None) -> None:
    network = cnn()
    assert load_weights(network, nothing) is None
    torch.testing.assert_close(network.state_dict(), cnn().state_dict(), rtol=0, atol=0)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    path = as_torch({"head.weight": torch.ones(1), "more": Code(target)}, tmp_path)
    with pytest.raises(ValueError, match="it could run code"):
        load_weights(cnn(), str(path))
    assert not target.exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 broken archive"])
def test_a_damaged_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        load_weights(cnn(), str(tmp_path / name))


def test_a_file_that_is_not_there_or_holds_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which does not exist"):
        load_weights(cnn(), str(tmp_path / "missing.pt"))
    for name in ("pipe.pt", "pipe.safetensors"):
        os.mkfifo(tmp_path / name)
        for read in (check_weights, read_weights):
            with pytest.raises(ValueError, match="which is no plain file"):
                read(tmp_path / name)
    with pytest.raises(ValueError, match="holds no weights"):
        load_weights(cnn(), str(as_torch({"epoch": 3}, tmp_path)))


def test_weights_that_fit_in_part_are_refused(tmp_path: Path) -> None:
    """Whatever would stay at its drawn values outside of the head is named."""
    state = cnn(seed=1).state_dict()
    body = next(name for name in state if not name.startswith("head.") and state[name].ndim == 1)
    for broken in (
        {name: tensor for name, tensor in state.items() if name != body},
        state | {body: torch.ones(3)},
    ):
        network = cnn(seed=2)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with pytest.raises(ValueError, match=f"does not fit this network: {body} is"):
            load_weights(network, str(as_torch(broken, tmp_path)))
        torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    other: nn.Module = MLP(3, 4, (8, 8), hidden=[8], batch_norm=False, dropout=0.0)
    with pytest.raises(ValueError, match="fits this network"):
        load_weights(cnn(), str(as_torch(other.state_dict(), tmp_path)))
