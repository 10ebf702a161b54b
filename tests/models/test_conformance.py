"""What every network of conf/model promises, with a class for a picture or for every pixel."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from src.config.compose import compose_settings, groups
from src.config.models import (
    EncoderSettings,
    NetworkSettings,
    SegmentationSettings,
    ZooSettings,
)
from src.config.schema import RunSettings
from src.models.weights import PACKAGED

NO_NETWORKS = ("handcrafted", "embedding", "ensemble", "pixels")
PRETRAINED = tuple(name.removeprefix("tf_") for name in PACKAGED)
# An encoder of a few layers, so that what is tested is the rest.
_ENCODER = "model.encoder=test_efficientnet"
OF_PIXELS = {
    "dense fcn": ["model=fcn", "model.channels=[16,32,64]"],
    "unet": ["model=unet", _ENCODER],
    "deeplab": ["model=deeplab", _ENCODER],
    "segmentation": ["model=segmentation"],
}
# Libraries by a network of theirs that is quickly made.
OF_LIBRARIES = {
    "timm": ["model.name=test_resnet"],
    "torchvision": ["model.name=shufflenet_v2_x0_5"],
}
OTHERS = (*OF_LIBRARIES, *PRETRAINED, *OF_PIXELS, *NO_NETWORKS)
OWN = [m for m in groups()["model"] if m not in OTHERS]
ALL = [*OWN, *OF_LIBRARIES]
SHAPES = [((1, 8, 8), 10), ((3, 33, 47), 2), ((4, 8, 12), 3), ((3, 32, 32), 100)]


def build(
    model: str, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10, *overrides: str
) -> nn.Module:
    target = "dense" if model in OF_PIXELS else "single"
    plainly = [f"data.target={target}", *OF_PIXELS.get(model, [f"model={model}"])]
    overrides = (*OF_LIBRARIES.get(model, ()), *overrides)
    settings = compose_settings(RunSettings, [*plainly, *overrides]).model
    assert isinstance(settings, NetworkSettings) and target in settings.targets
    base = {f.name for f in dataclasses.fields(NetworkSettings)}
    arguments = {k: v for k, v in vars(settings).items() if k not in base}
    if isinstance(settings, EncoderSettings | SegmentationSettings | ZooSettings):
        arguments["pretrained"] = None
    if isinstance(settings, SegmentationSettings | ZooSettings):
        arguments["name"] = settings.name
    module, _, name = settings.network_class(target).rpartition(".")
    network: nn.Module = getattr(importlib.import_module(module), name)(
        shape[0], classes, shape[1:], **arguments
    )
    return network


def samples(model: str, count: int, side: int) -> tuple[Tensor, Tensor]:
    """Grey pictures of this side, and their targets of three classes."""
    images, targets = torch.randn(count, 1, side, side), torch.arange(count) % 3
    if model in OF_PIXELS:
        targets = torch.randint(0, 3, (count, side, side))
    return images, targets


@pytest.mark.parametrize("model", ALL)
@pytest.mark.parametrize(("shape", "classes"), SHAPES)
def test_pictures_of_any_shape_become_logits(
    model: str, shape: tuple[int, int, int], classes: int
) -> None:
    network = build(model, shape, classes)
    logits = network(torch.randn(3, *shape))
    assert logits.shape == (3, classes) and logits.isfinite().all()


@pytest.mark.parametrize("model", OF_PIXELS)
@pytest.mark.parametrize("classes", [2, 6])
def test_pictures_of_any_size_become_logits_of_their_size(model: str, classes: int) -> None:
    network = build(model, (3, 64, 48), classes).eval()
    for size in ((64, 48), (33, 47), (5, 9), (97, 32)):
        with torch.no_grad():
            logits = network(torch.randn(2, 3, *size))
        assert logits.shape == (2, classes, *size) and logits.isfinite().all()


@pytest.mark.parametrize("model", [*ALL, *OF_PIXELS])
def test_every_parameter_is_trained(model: str) -> None:
    side = 64 if model in OF_PIXELS else 16
    network = build(model, (1, side, side), 3)
    images, targets = samples(model, 4 if model in OF_PIXELS else 16, side)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    # Branches and scores that start at zero pass no gradient in the very first step.
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    idle = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == {n for n, p in network.named_parameters() if not p.requires_grad}
    if model == "whitened":  # its normalisation learns no scale
        idle = {n for n in idle if not re.fullmatch(r"blocks\.\d\.[25]\.weight", n)}
    assert not idle


@pytest.mark.parametrize("model", [*ALL, *OF_PIXELS])
def test_a_prediction_does_not_depend_on_its_batch(model: str) -> None:
    size = (40, 24) if model in OF_PIXELS else (8, 8)
    network = build(model, (1, *size)).eval()
    images = torch.randn(4, 1, *size)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
        torch.testing.assert_close(network(images), together, rtol=0, atol=0)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [*ALL, *OF_PIXELS])
def test_the_head_is_where_the_prefixes_say(model: str) -> None:
    network = build(model)
    names = [name for name, _ in network.named_parameters()]
    head = [name for name in names if name.startswith(tuple(network.head_prefixes))]
    assert head and len(head) < len(names)
    other = build(model, classes=7).state_dict()
    changed = {n for n, t in network.state_dict().items() if t.shape != other[n].shape}
    assert changed and changed <= set(head), "what depends on the number of classes is in the head"


@pytest.mark.parametrize("model", [*ALL, *OF_PIXELS])
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
    images, targets = samples(model, 12, 8)
    assert any(
        step % 5 == 0 and (network.eval()(images).argmax(1) == targets).all()
        for step in learning(network, images, targets, steps=60)
    )


@pytest.mark.parametrize("model", OF_PIXELS)
def test_a_handful_of_masks_is_learnt(model: str) -> None:
    network = build(model, (1, 32, 32), 2)
    targets = torch.zeros(4, 32, 32, dtype=torch.int64)
    for n, (i, j) in enumerate(((2, 3), (14, 4), (5, 17), (16, 12))):
        targets[n, i : i + 11, j : j + 9] = 1
    images = targets[:, None] + 0.3 * torch.randn(4, 1, 32, 32)
    for _ in learning(network, images, targets, steps=40):
        pass
    right = (network(images).argmax(1) == targets).float().mean()
    # Of maps at a stride of 8 and 16 borders are known to some pixels; 0.90 is nothing learnt.
    assert right > (0.95 if model == "segmentation" else 0.98)


def learning(network: nn.Module, images: Tensor, targets: Tensor, steps: int) -> Iterator[int]:
    """Train, and yield the number of each step after it."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(1, steps + 1):
        network.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
        yield step
