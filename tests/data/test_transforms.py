"""Every operation against a plain loop over pictures, or against torchvision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from src.data import transforms


def pictures(batch: int = 6, channels: int = 3, height: int = 9, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(batch * channels)
    return torch.randint(
        0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator
    )


def translated(
    image: NDArray[np.uint8], down: int, right: int, flip: bool, padding: str
) -> NDArray[np.uint8]:
    """Mirror, pad on all sides, crop: as papers describe it."""
    image = image[:, :, ::-1] if flip else image
    mode = "constant" if padding == "zero" else "reflect"
    margin = max(abs(down), abs(right))
    padded = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode=mode)
    top, left = margin - down, margin - right
    return padded[:, top : top + image.shape[1], left : left + image.shape[2]]


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_translate_equals_pad_and_crop(padding: str, flipped: bool, channels: int) -> None:
    images = pictures(channels=channels)
    down, right = torch.tensor([0, 1, -2, 8, -8, 3]), torch.tensor([0, -1, 4, 2, 8, -8])
    flips = torch.tensor([True, False, True, True, False, False]) if flipped else None
    moved = transforms.translate(images, down, right, flips=flips, padding=padding)
    assert moved.dtype == torch.uint8 and moved.is_contiguous()
    for i, image in enumerate(images.numpy()):
        flip = flips is not None and bool(flips[i])
        expected = translated(image, int(down[i]), int(right[i]), flip, padding)
        assert np.array_equal(moved[i].numpy(), expected)


def test_flip_mirrors_the_chosen_pictures() -> None:
    images = pictures(3)
    flipped = transforms.flip_horizontal(images, torch.tensor([True, False, True]))
    assert torch.equal(flipped[0], tv.horizontal_flip(images[0]))
    assert torch.equal(flipped[1], images[1])
    assert torch.equal(flipped[2], tv.horizontal_flip(images[2]))


@pytest.mark.parametrize("shape", [(9, 12), (12, 9), (8, 8)])
def test_warp_equals_torchvision(shape: tuple[int, int]) -> None:
    images = pictures(5, 3, *shape)
    degrees = torch.tensor([0.0, 30.0, -90.0, 180.0, 12.5])
    zoom = torch.tensor([1.0, 1.0, 1.25, 0.5, 2.0])
    warped = transforms.warp(images, torch.deg2rad(degrees), zoom, padding="zero")
    for i, image in enumerate(images.float()):
        expected = tv.affine(
            image,
            angle=-float(degrees[i]),  # torchvision's affine turns clockwise
            translate=[0, 0],
            scale=float(zoom[i]),
            shear=[0.0, 0.0],
            interpolation=tv.InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(warped[i], expected, atol=0.02, rtol=0)


def test_a_quarter_turn_of_a_square_is_exact() -> None:
    images = pictures(2, 1, 8, 8)
    quarter = torch.full((2,), math.pi / 2)
    turned = transforms.warp(images, quarter, torch.ones(2), padding="zero")
    torch.testing.assert_close(turned, images.rot90(1, (2, 3)).float(), atol=0.01, rtol=0)


def test_reflecting_warp_of_a_plain_picture_is_plain() -> None:
    plain = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    turned = transforms.warp(plain, torch.tensor([0.7]), torch.tensor([0.5]), padding="reflect")
    torch.testing.assert_close(turned, torch.full_like(turned, 77.0))
    darkened = transforms.warp(plain, torch.tensor([0.7]), torch.tensor([0.5]), padding="zero")
    assert darkened[0, 0, 0, 0] == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_equal_torchvision_one_picture_at_a_time(channels: int) -> None:
    # Within 60 to 140 nothing is cut off, so torchvision's order of cutting does not matter.
    images = 60 + pictures(4, channels) % 80
    brightness, contrast = torch.tensor([1.0, 0.8, 1.3, 1.1]), torch.tensor([1.0, 1.2, 0.5, 0.9])
    saturation = torch.tensor([1.0, 0.0, 1.4, 0.7])
    changed = transforms.adjust_color(images, brightness, contrast, saturation)
    for i, image in enumerate(images.float() / 255):
        expected = tv.adjust_brightness(image, float(brightness[i]))
        expected = tv.adjust_contrast(expected, float(contrast[i]))
        expected = tv.adjust_saturation(expected, float(saturation[i]))
        # torchvision's weights of grey have three places: 0.2989 for 0.299, and so on.
        torch.testing.assert_close(changed[i], expected * 255, atol=0.1, rtol=0)


def test_colors_stay_on_the_scale() -> None:
    double = torch.full((6,), 2.0)
    changed = transforms.adjust_color(pictures(), double, double, double)
    assert changed.min() == 0 and changed.max() == 255


def test_erase_paints_the_mean_over_a_rectangle() -> None:
    images = pictures(4)
    top, left = torch.tensor([0, 2, 5, 3]), torch.tensor([0, 7, 1, 3])
    height, width = torch.tensor([9, 3, 0, 1]), torch.tensor([12, 5, 4, 1])
    erased = transforms.erase(images, top, left, height, width)
    assert erased.dtype == torch.uint8
    for i, image in enumerate(images.numpy()):
        expected = image.copy()
        rows = slice(int(top[i]), int(top[i] + height[i]))
        columns = slice(int(left[i]), int(left[i] + width[i]))
        for channel in range(3):
            expected[channel, rows, columns] = np.round(image[channel].mean())
        assert np.array_equal(erased[i].numpy(), expected)


def test_mixup_blends_with_the_partner() -> None:
    images, probs = pictures(4), torch.eye(4)
    mixed, targets = transforms.mixup(images, probs, 1, 0.75)
    for i in range(4):
        expected = 0.75 * images[i].double() + 0.25 * images[i - 1].double()
        torch.testing.assert_close(mixed[i].double(), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(targets[i], 0.75 * probs[i] + 0.25 * probs[i - 1])


def test_cutmix_pastes_the_partners_box_and_counts_its_pixels() -> None:
    images, probs = pictures(4), torch.eye(4)
    mixed, targets = transforms.cutmix(images, probs, 3, (2, 1, 5, 7))
    assert mixed.dtype == torch.uint8
    for i in range(4):
        expected = images[i].clone()
        expected[:, 2:5, 1:7] = images[i - 3][:, 2:5, 1:7]
        assert torch.equal(mixed[i], expected)
        area = 3 * 6 / (9 * 12)
        torch.testing.assert_close(targets[i], (1 - area) * probs[i] + area * probs[i - 3])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalize(dtype: torch.dtype) -> None:
    images = pictures().to(dtype)
    before = images.clone()
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 1.0]
    expected = tv.normalize(images.double() / 255, mean, std)
    for arguments in ((mean, std), (torch.tensor(mean), torch.tensor(std))):
        normalized = transforms.normalize(images, *arguments)
        assert normalized.dtype == torch.float32
        torch.testing.assert_close(normalized.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(images, before)


def test_normalize_keeps_the_memory_format() -> None:
    images = pictures().contiguous(memory_format=torch.channels_last)
    normalized = transforms.normalize(images, [0.5] * 3, [0.5] * 3)
    assert normalized.is_contiguous(memory_format=torch.channels_last)
