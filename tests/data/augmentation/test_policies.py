"""Policies against torchvision's operations, and their draws against the laws they should have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from src.data.augmentation import transforms
from src.data.augmentation.policies import OPERATIONS, Policy, Step

HEIGHT, WIDTH = 20, 28
# Strengths of an operation at a level from 0 to 1: TrivialAugment's wide ranges, and RandAugment's.
SHEAR = {"trivial": 0.99, "rand": 0.3}
SHIFT = {"trivial": 32 / 224, "rand": 150 / 331}
DEGREES = {"trivial": 135.0, "rand": 30.0}
FACTOR = {"trivial": 0.99, "rand": 0.9}
BITS = {"trivial": 6, "rand": 4}


def affine(image: Tensor, **change: Any) -> Tensor:
    usual = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    bilinear = tv.InterpolationMode.BILINEAR
    moved: Tensor = tv.affine(image.float(), interpolation=bilinear, **(usual | change))
    return moved


def sheared(image: Tensor, *slopes: float) -> Tensor:
    # torchvision takes angles, and the corner as the centre, where the papers take slopes.
    angles = [math.degrees(math.atan(slope)) for slope in slopes]
    return affine(image, shear=angles, center=[0, 0])


def references(name: str, level: float, sign: float) -> dict[str, Callable[[Tensor], Tensor]]:
    amount = level * sign
    factor = 1 + amount * FACTOR[name]
    right, down = (int(amount * SHIFT[name] * side) for side in (WIDTH, HEIGHT))
    return {
        "identity": lambda image: image,
        "shear_x": lambda image: sheared(image, amount * SHEAR[name], 0.0),
        "shear_y": lambda image: sheared(image, 0.0, amount * SHEAR[name]),
        "translate_x": lambda image: affine(image, translate=[right, 0]),
        "translate_y": lambda image: affine(image, translate=[0, down]),
        # Counter-clockwise, where torchvision's affine turns clockwise.
        "rotate": lambda image: affine(image, angle=-amount * DEGREES[name]),
        "brightness": lambda image: tv.adjust_brightness(image, factor),
        "saturation": lambda image: tv.adjust_saturation(image, factor),
        "contrast": lambda image: tv.adjust_contrast(image, factor),
        "sharpness": lambda image: tv.adjust_sharpness(image, factor),
        "posterize": lambda image: tv.posterize(image, 8 - round(level * BITS[name])),
        "solarize": lambda image: tv.solarize(image, 255 * (1 - level)),
        "autocontrast": tv.autocontrast,
        "equalize": tv.equalize,
    }


def applied(policy: Policy, images: Tensor, steps: list[Step]) -> Tensor:
    to_source, moved = policy.geometry(steps, *images.shape[2:])
    changed = images.clone()
    transforms.change_chosen_(
        changed,
        moved,
        lambda rows: (
            transforms.resample(images[rows], to_source[rows], padding="zero")
            .round()
            .to(torch.uint8)
        ),
    )
    policy.recolor_(changed, steps)
    return changed


@pytest.mark.parametrize("name", ["trivial", "rand"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("level", "sign"), [(0.0, 1.0), (0.3, 1.0), (0.5, -1.0), (1.0, -1.0)])
def test_operations_equal_torchvision(name: str, channels: int, level: float, sign: float) -> None:
    """A batch with every operation once, each on a picture of its own."""
    generator = torch.Generator().manual_seed(channels)
    shape = (len(OPERATIONS), channels, HEIGHT, WIDTH)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    step = Step(
        torch.arange(len(OPERATIONS)),
        torch.full((len(OPERATIONS),), level),
        torch.full((len(OPERATIONS),), sign),
    )
    changed = applied(Policy(name, 1, 9), images, [step])
    expected = references(name, level, sign)
    for i, operation in enumerate(OPERATIONS):
        difference = (changed[i].float() - expected[operation](images[i]).float()).abs().max()
        # torchvision cuts fractions off, in grey as well, where this rounds.
        assert difference <= (2 if operation in ("saturation", "contrast") else 1), operation


def test_every_operation_is_as_likely_and_every_strength_too() -> None:
    generator = torch.Generator().manual_seed(0)
    policy = Policy("trivial", 3, 9)
    assert policy.streams == 3  # it has one operation, whatever others may have
    (step,) = policy.steps(torch.rand(policy.streams, 20_000, generator=generator))
    counts = torch.bincount(step.kinds, minlength=len(OPERATIONS))
    assert len(counts) == len(OPERATIONS)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    levels = torch.bincount((step.levels * 30).round().long(), minlength=31)
    assert len(levels) == 31
    assert stats.chisquare(levels.numpy()).pvalue > 1e-4
    assert stats.binomtest(int((step.signs > 0).sum()), 20_000).pvalue > 1e-4


def test_rand_has_one_strength_and_steps_of_their_own() -> None:
    policy = Policy("rand", 3, 12)
    steps = policy.steps(torch.rand(policy.streams, 5000))
    assert len(steps) == 3
    for step in steps:
        assert torch.equal(step.levels, torch.full((5000,), 0.4))
    pairs = steps[0].kinds * len(OPERATIONS) + steps[1].kinds
    counts = torch.bincount(pairs, minlength=len(OPERATIONS) ** 2)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_steps_follow_each_other() -> None:
    """To turn and turn back is nothing, and colours change in the order of the steps."""
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    policy, level = Policy("rand", 2, 0), torch.tensor([0.5, 0.5])

    def step(first: str, second: str, sign: float) -> Step:
        kinds = torch.tensor([OPERATIONS.index(first), OPERATIONS.index(second)])
        return Step(kinds, level, torch.full((2,), sign))

    steps = [step("rotate", "solarize", 1.0), step("rotate", "posterize", -1.0)]
    changed = applied(policy, images, steps)
    assert torch.equal(changed[0], images[0])
    expected = tv.posterize(tv.solarize(images[1], 127.5), 6)
    assert torch.equal(changed[1], expected)
    assert not torch.equal(expected, tv.solarize(tv.posterize(images[1], 6), 127.5))
