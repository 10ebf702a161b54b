"""What every network of conf/model promises."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
import torch
from torch import nn

from src.config.compose import compose_settings, groups
from src.config.models import NetworkSettings, ZooSettings
from src.config.schema import RunSettings

NO_NETWORKS = ("handcrafted", "embedding", "ensemble", "pixels")
PRETRAINED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
OF_PIXELS = ("unet", "deeplab", "segmentation")  # tests/models/test_pixel_conformance.py
OTHERS = ("timm", "torchvision", *PRETRAINED, *OF_PIXELS, *NO_NETWORKS)
OWN = [m for m in groups()["model"] if m not in OTHERS]
ALL = [*OWN, "timm", "torchvision"]
SHAPES = [((1, 8, 8), 10), ((3, 33, 47), 2), ((4, 8, 12), 3), ((3, 32, 32), 100)]


def build(model: str, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10) -> nn.Module:
    settings = compose_settings(RunSettings, [f"model={model}"]).model
    base = {f.name for f in dataclasses.fields(NetworkSettings)}
    arguments = {k: v for k, v in vars(settings).items() if k not in base}
    if isinstance(settings, ZooSettings):
        arguments |= {"name": settings.name, "pretrained": None}
    module, _, name = settings._target_.rpartition(".")
    network: nn.Module = getattr(importlib.import_module(module), name)(
        shape[0], classes, shape[1:], **arguments
    )
    return network


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_pictures_of_any_shape_become_logits(
    model: str, shape: tuple[int, int, int], classes: int
) -> None:
    network = build(model, shape, classes)
    logits = network(torch.randn(3, *shape))
    assert logits.shape == (3, classes) and logits.isfinite().all()


@pytest.mark.parametrize("model", ALL)
def test_every_parameter_is_trained(model: str) -> None:
    network = build(model, (1, 16, 16))
    images = torch.randn(16, 1, 16, 16)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    # Branches that start at zero pass no gradient in the very first step.
    for _ in range(2):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), torch.arange(16) % 10)
        loss.backward()
        optimizer.step()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.parametrize("model", ALL)
def test_a_prediction_does_not_depend_on_its_batch(model: str) -> None:
    network = build(model).eval()
    images = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
        torch.testing.assert_close(network(images), together, rtol=0, atol=0)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ALL)
def test_the_head_is_where_the_prefixes_say(model: str) -> None:
    network = build(model)
    names = [name for name, _ in network.named_parameters()]
    head = [name for name in names if name.startswith(tuple(network.head_prefixes))]
    assert head and len(head) < len(names)
    other = build(model, classes=7).state_dict()
    changed = {n for n, t in network.state_dict().items() if t.shape != other[n].shape}
    assert changed <= set(head), "what depends on the number of classes is outside of the head"


@pytest.mark.parametrize("model", ALL)
def test_the_seed_decides_the_weights(model: str) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build(model).state_dict())
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert any(not torch.equal(states[0][n], states[2][n]) for n in states[0])


@pytest.mark.parametrize("model", ["cnn", "fcn"])
def test_convolutional_networks_take_other_sizes_after_training(model: str) -> None:
    network = build(model, (3, 32, 32)).eval()
    for size in ((32, 32), (40, 64), (96, 96)):
        assert network(torch.randn(1, 3, *size)).shape == (1, 10)


@pytest.mark.parametrize("model", OWN)
def test_a_handful_of_pictures_is_learnt(model: str) -> None:
    network = build(model, (1, 8, 8), classes=3)
    images, targets = torch.randn(12, 1, 8, 8), torch.arange(12) % 3
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    assert (network.eval()(images).argmax(1) == targets).all()
