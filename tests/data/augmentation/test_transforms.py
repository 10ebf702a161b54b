"""Every operation against a plain loop over pictures, or against torchvision."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from src.data.augmentation import affine, transforms


def pictures(batch: int = 6, channels: int = 3, height: int = 9, width: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(batch * channels)
    return torch.randint(
        0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator
    )


def turned(images: Tensor, radians: Tensor, zoom: Tensor, padding: str) -> Tensor:
    to_source = affine.turn(radians, zoom, *images.shape[2:])
    return transforms.resample(images, to_source, padding=padding)


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
    most = images.shape[2] - 1, 8
    moved = transforms.translate(images, down, right, most=most, flips=flips, padding=padding)
    assert moved.dtype == torch.uint8 and moved.is_contiguous()
    for i, image in enumerate(images.numpy()):
        flip = flips is not None and bool(flips[i])
        expected = translated(image, int(down[i]), int(right[i]), flip, padding)
        assert np.array_equal(moved[i].numpy(), expected)


@pytest.mark.parametrize("shape", [(9, 12), (12, 9), (8, 8)])
def test_warp_equals_torchvision(shape: tuple[int, int]) -> None:
    images = pictures(5, 3, *shape)
    degrees = torch.tensor([0.0, 30.0, -90.0, 180.0, 12.5])
    zoom = torch.tensor([1.0, 1.0, 1.25, 0.5, 2.0])
    warped = turned(images, torch.deg2rad(degrees), zoom, padding="zero")
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


def test_reflecting_warp_of_a_plain_picture_is_plain() -> None:
    plain = torch.full((1, 1, 8, 8), 77, dtype=torch.uint8)
    found = turned(plain, torch.tensor([0.7]), torch.tensor([0.5]), padding="reflect")
    torch.testing.assert_close(found, torch.full_like(found, 77.0))
    darkened = turned(plain, torch.tensor([0.7]), torch.tensor([0.5]), padding="zero")
    assert darkened[0, 0, 0, 0] == 0


BOXES = {
    (9, 12): [[0, 0, 9, 12], [0, 0, 1, 1], [3, 2, 5, 7], [8, 11, 1, 1], [1, 0, 8, 3], [0, 4, 2, 8]],
    (8, 8): [[0, 0, 8, 8], [7, 0, 1, 8], [0, 0, 4, 4], [2, 3, 3, 3], [1, 1, 7, 7], [5, 0, 3, 2]],
    (8, 300): [[0, 0, 8, 300], [2, 10, 1, 290], [0, 0, 8, 1], [4, 99, 4, 150]],
}


@pytest.mark.parametrize("way", [transforms.crop, transforms.crop_by_sampling])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", list(BOXES))
def test_crop_equals_torchvision(
    way: Callable[..., Tensor], channels: int, shape: tuple[int, int]
) -> None:
    boxes = torch.tensor(BOXES[shape])
    images = pictures(len(boxes), channels, *shape)
    flips = torch.arange(len(boxes)) % 2 == 1
    cropped = way(images, boxes.T, flips=flips)
    assert cropped.dtype == torch.uint8
    for i, image in enumerate(images):
        expected = tv.resized_crop(image, *boxes[i].tolist(), size=list(shape))
        expected = tv.horizontal_flip(expected) if flips[i] else expected
        assert (cropped[i].int() - expected.int()).abs().max() <= 1
    assert torch.equal(cropped[0], images[0])  # the whole picture


def test_a_resampled_picture_goes_through_all_maps_at_once() -> None:
    """A quarter turn of a cropped, mirrored picture moves pixels and mixes none."""
    images = pictures(1, 3, 8, 8)
    box = torch.tensor([[0], [4], [4], [4]])
    one = torch.ones(1)
    cropped_and_mirrored = affine.crop(box, 8, 8, flips=one > 0)
    quarter_turn = affine.turn(one * math.pi / 2, one, 8, 8)
    to_source = affine.compose(cropped_and_mirrored, quarter_turn)
    found = transforms.resample(images, to_source, padding="zero")
    cropped = tv.resized_crop(images[0].float(), 0, 4, 4, 4, size=[8, 8], antialias=True)
    expected = tv.horizontal_flip(cropped).rot90(1, (1, 2))
    # At the edge of the box, the picture around it comes in.
    torch.testing.assert_close(found[0, :, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], atol=0.02, rtol=0)


def test_pictures_are_resampled_alike_however_many_there_are() -> None:
    images = pictures(5, 3, 190, 230)  # too large for the cache together
    radians, zoom = torch.linspace(-1, 1, 5), torch.linspace(0.5, 2, 5)
    together = turned(images, radians, zoom, padding="reflect")
    for i in range(5):
        one = slice(i, i + 1)
        alone = turned(images[one], radians[one], zoom[one], padding="reflect")
        assert torch.equal(alone[0], together[i])


@pytest.mark.parametrize("shape", [(9, 12), (200, 300), (400, 300)])
def test_only_the_chosen_change(shape: tuple[int, int]) -> None:
    """Few and many at a time, and pictures of which the cache holds one."""
    images, amount = pictures(40 if shape == (9, 12) else 6, 3, *shape), torch.arange(40)
    before = images.clone()
    chosen = torch.arange(len(images)) % 3 == 1
    asked = torch.zeros(len(images), dtype=torch.int64)

    def change(rows: Tensor | slice) -> Tensor:
        asked[rows] += 1
        return images[rows] + amount[: len(images)][rows][:, None, None, None].to(torch.uint8)

    transforms.change_chosen_(images, chosen, change)
    assert torch.equal(asked, chosen.long())
    added = (amount[: len(images)] * chosen)[:, None, None, None].to(torch.uint8)
    assert torch.equal(images, before + added)
    transforms.change_chosen_(images, chosen & False, change)
    assert torch.equal(images, before + added)


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
    beyond = transforms.adjust_color(pictures(4, channels), *torch.full((3, 4), 2.0))
    assert beyond.min() == 0 and beyond.max() == 255


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
    images = pictures().to(dtype).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 1.0]
    expected = tv.normalize(images.double() / 255, mean, std)
    for arguments in ((mean, std), (torch.tensor(mean), torch.tensor(std))):
        normalized = transforms.normalize(images, *arguments)
        assert normalized.dtype == torch.float32
        assert normalized.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(normalized.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(images, before)
