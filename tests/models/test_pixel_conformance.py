"""What every network with a class for every pixel does, whatever its architecture."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
import torch
from torch import nn

from src.config.compose import compose_settings
from src.config.models import EncoderSettings, NetworkSettings, SegmentationSettings
from src.config.schema import RunSettings

# A network of a few layers, so that what is tested is the rest.
SMALL = "model.encoder=test_efficientnet"
MODELS = {
    "fcn": ["model.channels=[16,32,64]"],
    "unet": [SMALL],
    "deeplab": [SMALL],
    "segmentation": [],
}


def build(
    model: str, shape: tuple[int, int, int] = (1, 32, 32), classes: int = 2, *more: str
) -> nn.Module:
    overrides = ["data.target=dense", f"model={model}", *MODELS[model], *more]
    settings = compose_settings(RunSettings, overrides).model
    assert isinstance(settings, NetworkSettings) and "dense" in settings.targets
    base = {f.name for f in dataclasses.fields(NetworkSettings)}
    arguments = {k: v for k, v in vars(settings).items() if k not in base}
    if isinstance(settings, EncoderSettings):
        arguments["pretrained"] = None
    if isinstance(settings, SegmentationSettings):
        arguments |= {"name": settings.name, "pretrained": None}
    module, _, name = settings.network_class("dense").rpartition(".")
    network: nn.Module = getattr(importlib.import_module(module), name)(
        shape[0], classes, shape[1:], **arguments
    )
    return network


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("classes", [2, 6])
def test_pictures_of_any_size_become_logits_of_their_size(model: str, classes: int) -> None:
    network = build(model, (3, 64, 48), classes).eval()
    for size in ((64, 48), (33, 47), (5, 9), (97, 32)):
        with torch.no_grad():
            logits = network(torch.randn(2, 3, *size))
        assert logits.shape == (2, classes, *size) and logits.isfinite().all()


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_is_trained(model: str) -> None:
    network = build(model, (1, 64, 64), 3)
    images, targets = torch.randn(4, 1, 64, 64), torch.randint(0, 3, (4, 64, 64))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):  # scores that start at zero pass no gradient in the very first step
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("model", MODELS)
def test_a_prediction_does_not_depend_on_its_batch(model: str) -> None:
    network = build(model).eval()
    images = torch.randn(3, 1, 40, 24)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_the_head_is_where_the_prefixes_say(model: str) -> None:
    network = build(model)
    names = [name for name, _ in network.named_parameters()]
    head = [name for name in names if name.startswith(tuple(network.head_prefixes))]
    assert head and len(head) < len(names)
    other = build(model, classes=7).state_dict()
    changed = {n for n, t in network.state_dict().items() if t.shape != other[n].shape}
    assert changed and changed <= set(head)


@pytest.mark.parametrize("model", MODELS)
def test_the_seed_decides_the_weights(model: str) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build(model).state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert any(not torch.equal(states[0][n], states[2][n]) for n in states[0])


@pytest.mark.parametrize("model", MODELS)
def test_a_handful_of_pictures_is_learnt(model: str) -> None:
    torch.manual_seed(0)
    network = build(model, (1, 32, 32), 2)
    targets = torch.zeros(4, 32, 32, dtype=torch.int64)
    for n, (i, j) in enumerate(((2, 3), (14, 4), (5, 17), (16, 12))):
        targets[n, i : i + 11, j : j + 9] = 1
    images = targets[:, None] + 0.3 * torch.randn(4, 1, 32, 32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    right = (network(images).argmax(1) == targets).float().mean()
    # Of maps at a stride of 8 and 16 borders are known to some pixels; 0.90 is nothing learnt.
    assert right > (0.95 if model == "segmentation" else 0.98)
