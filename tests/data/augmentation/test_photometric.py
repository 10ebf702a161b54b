"""Every operation against torchvision's, one picture at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from src.data.augmentation import photometric

FACTORS = torch.tensor([1.0, 0.0, 0.01, 0.6, 1.4, 1.99])


def pictures(channels: int) -> Tensor:
    """Noise of several ranges, a plain picture, a black one and one of two values, 9x12."""
    generator = torch.Generator().manual_seed(channels)
    noise = torch.randint(0, 256, (3, channels, 9, 12), dtype=torch.uint8, generator=generator)
    plain = torch.full((1, channels, 9, 12), 77, dtype=torch.uint8)
    two = torch.where(noise[:1] > 99, 20, 235).to(torch.uint8)
    return torch.cat([noise[:1], 60 + noise[1:2] // 3, noise[2:], plain, plain * 0, two])


def differences(changed: Tensor, expected: list[Tensor]) -> int:
    assert changed.dtype == torch.uint8
    return int((changed.int() - torch.stack(expected).int()).abs().max())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (photometric.brightness, tv.adjust_brightness),
        (photometric.contrast, tv.adjust_contrast),
        (photometric.saturation, tv.adjust_saturation),
        (photometric.sharpness, tv.adjust_sharpness),
    ],
)
def test_factors_do_what_they_do_in_torchvision(
    channels: int, ours: Callable[..., Tensor], theirs: Callable[..., Tensor]
) -> None:
    images = pictures(channels)
    for shift in range(len(FACTORS)):  # every factor meets every picture
        factors = FACTORS.roll(shift)
        expected = [theirs(x, float(f)) for x, f in zip(images, factors, strict=True)]
        # torchvision cuts fractions off, in grey as well, where this rounds.
        assert differences(ours(images, factors), expected) <= 2
        same = factors == 1
        assert torch.equal(ours(images, factors)[same], images[same])


@pytest.mark.parametrize("channels", [1, 3])
def test_what_counts_in_whole_numbers_is_exact(channels: int) -> None:
    images = pictures(channels)
    bits = torch.tensor([1, 2, 3, 5, 7, 8])
    thresholds = torch.tensor([0.0, 255.0, 127.5, 77.0, 0.2, 20.4])
    for shift in range(6):
        kept, edges = bits.roll(shift), thresholds.roll(shift)
        expected = [tv.posterize(x, int(b)) for x, b in zip(images, kept, strict=True)]
        assert differences(photometric.posterize(images, kept), expected) == 0
        expected = [tv.solarize(x, float(t)) for x, t in zip(images, edges, strict=True)]
        assert differences(photometric.solarize(images, edges), expected) == 0
    generator = torch.Generator().manual_seed(channels)
    photos = torch.randn(4, channels, 60, 80, generator=generator) * 30 + 120
    for some in (images, photos.clamp(0, 255).to(torch.uint8)):
        assert differences(photometric.equalize(some), [tv.equalize(x) for x in some]) == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_reaches_from_black_to_white(channels: int) -> None:
    images = pictures(channels)
    stretched = photometric.autocontrast(images)
    assert differences(stretched, [tv.autocontrast(x) for x in images]) <= 1
    lowest, highest = stretched[:3].amin((2, 3)), stretched[:3].amax((2, 3))
    assert (lowest == 0).all() and (highest == 255).all()
    assert torch.equal(stretched[3:5], images[3:5])


@pytest.mark.parametrize("name", photometric.__all__)
def test_what_comes_in_is_left_alone(name: str) -> None:
    images = pictures(3).repeat(1, 1, 2, 2)  # as many pixels as equalizing takes
    before = images.clone()
    parameter = {
        "posterize": (torch.full((6,), 4),),
        "solarize": (torch.full((6,), 100.0),),
        "autocontrast": (),
        "equalize": (),
    }.get(name, (torch.full((6,), 1.5),))
    changed = getattr(photometric, name)(images, *parameter)
    assert torch.equal(images, before)
    assert not torch.equal(changed, before)


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_floats_keep_their_depth(channels: int) -> None:
    images = pictures(channels)
    floats = images.float()
    threshold, bits = torch.full((6,), 99.0), torch.full((6,), 3)
    for change in (
        lambda x: photometric.posterize(x, bits),
        lambda x: photometric.solarize(x, threshold),
        photometric.equalize,
    ):  # of whole numbers it makes whole numbers, the same ones
        assert torch.equal(change(floats), change(images).float())
    # Equalizing numbers between whole ones leaves more than 256 of them.
    finer = floats / 3 + 0.21
    ranks = photometric.equalize(finer)
    assert ranks.max() <= 255 and not torch.equal(ranks, ranks.round())
    if channels == 7:  # torchvision knows one channel and three
        return
    for ours, theirs in (
        (photometric.brightness, tv.adjust_brightness),
        (photometric.contrast, tv.adjust_contrast),
        (photometric.sharpness, tv.adjust_sharpness),
    ):
        expected = torch.stack([theirs(x / 255, 1.4) * 255 for x in finer])
        changed = ours(finer, torch.full((6,), 1.4))
        torch.testing.assert_close(changed, expected, atol=0.02, rtol=1e-3)
    expected = torch.stack([tv.autocontrast(x / 255) * 255 for x in finer[:3]])
    torch.testing.assert_close(photometric.autocontrast(finer[:3]), expected, atol=0.02, rtol=1e-3)
