from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter, shift

from src.data.quality.near_duplicates import (
    burst_pairs,
    low_frequencies,
    near_pairs,
    perceptual_hashes,
)


def photos(count: int, seed: int = 0, side: int = 32) -> NDArray[np.uint8]:
    """Random pictures with the spectrum of photos: strong low frequencies, weak high ones."""
    noise = np.random.default_rng(seed).normal(size=(count, side, side))
    pictures = sum(4.0**s * gaussian_filter(noise, (0, 2**s, 2**s)) for s in range(4))
    pictures -= pictures.min(axis=(1, 2), keepdims=True)
    return (255 * pictures / pictures.max(axis=(1, 2), keepdims=True)).astype(np.uint8)


def saved_anew(picture: NDArray[np.uint8], quality: int, scale: float = 1) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    other = image.resize((round(image.width * scale),) * 2, Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    other.save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).resize(image.size, Image.Resampling.BICUBIC))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), side=st.sampled_from([(32, 32), (28, 28), (40, 24)]))
def test_hashes_are_those_of_the_plain_cosine_transform(seed: int, side: tuple[int, int]) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (5, *side), np.uint8)
    for image, found in zip(images, perceptual_hashes(low_frequencies(images)), strict=True):
        low = dctn(image.astype(float), type=2, norm=None)[:8, :8].ravel()
        middle = np.median(low)
        clear = np.abs(low - middle) > 1e-3 * np.abs(low).max()
        bits = np.array([int(digit) for digit in f"{int(found):064b}"], bool)
        assert np.array_equal(bits[clear], (low > middle)[clear])


def test_one_photo_saved_anew_is_found_and_strangers_are_not() -> None:
    images = photos(300)
    copies = [
        saved_anew(images[7], 60),
        saved_anew(images[11], 85, scale=1.7),
        np.clip(images[19] * 0.8 + 30, 0, 255).astype(np.uint8),
        images[23],
    ]
    found = near_pairs(np.concatenate([images, copies]))
    assert found.pairs.tolist() == [[7, 300], [11, 301], [19, 302], [23, 303]]
    assert (found.likeness > 0.9).all() and found.likeness[3] == pytest.approx(1, abs=1e-5)


def test_the_mirror_image_and_what_was_cropped_are_others() -> None:
    images = photos(50)
    assert len(near_pairs(np.concatenate([images, images[:5, :, ::-1]])).pairs) == 0
    assert len(near_pairs(np.concatenate([images, np.roll(images[:5], 8, 1)])).pairs) == 0


def silhouettes(count: int) -> NDArray[np.uint8]:
    """White shapes on black that differ a little in outline, as trousers or letters do."""
    rng = np.random.default_rng(3)
    height, angle = np.mgrid[-1:1:28j, -1:1:28j]
    waves = rng.normal(0, 0.05, (count, 8, 1, 1))
    edge = 0.5 + sum(waves[:, k] * np.cos((k + 1) * height + k) for k in range(8))
    middle = sum(rng.normal(0, 0.1, (count, 1, 1)) * height**k for k in range(3))
    shape = 255 / (1 + np.exp(30 * (np.abs(angle - middle) - edge)))
    return shape.astype(np.uint8)


def test_pictures_that_are_all_alike_are_no_flood() -> None:
    images = silhouettes(2000)
    images = np.concatenate([images, images[:2] // 2])
    pixels = images.reshape(len(images), -1)
    assert (np.triu(np.corrcoef(pixels), 1) > 0.9).sum() > 50_000
    found = near_pairs(images)
    assert {(0, 2000), (1, 2001)} <= set(map(tuple, found.pairs.tolist()))
    assert len(found.pairs) < 400


def test_blank_pictures_have_no_partner_and_few_pictures_have() -> None:
    images = np.concatenate([photos(10), np.full((6, 32, 32), 77, np.uint8)])
    assert len(near_pairs(images).pairs) == 0
    for count in (1, 2, 3):
        same = np.repeat(photos(1), count, axis=0)
        assert len(near_pairs(same).pairs) == count * (count - 1) // 2


def shots(subjects: int, each: int) -> NDArray[np.uint8]:
    """Each subject shot several times: moved by a pixel or two, with noise."""
    moved = np.random.default_rng(5).integers(-1, 2, (subjects * each, 2))
    noise = np.random.default_rng(6).normal(0, 2, (subjects * each, 32, 32))
    frames = np.repeat(gaussian_filter(photos(subjects, 9), (0, 2, 2)), each, axis=0)
    frames = np.stack([shift(f, m, mode="nearest") for f, m in zip(frames, moved, strict=True)])
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def test_bursts_are_neighbours_by_number_that_look_alike() -> None:
    images = shots(20, 5)
    names = [f"cat/IMG_{number:04d}.JPG" for number in range(100)]
    found = burst_pairs(images, names, ["cat"] * 100)
    expected = [[i, i + 1] for i in range(99) if i % 5 != 4]
    assert found.pairs.tolist() == expected
    # In other words: by other names, or in another order, nothing is said.
    others = [f"{n}x{n}.jpg"[::-1] for n in "abcde" * 20]
    assert len(burst_pairs(images, others, [""] * 100).pairs) == 0
    apart = [f"IMG_{number * 3}.jpg" for number in range(100)]
    assert len(burst_pairs(images, apart, ["cat"] * 100).pairs) == 0
    series = [str(number % 2) for number in range(100)]
    assert len(burst_pairs(images, names, series).pairs) == 0
    # Nor by numbers that count through look-alikes.
    numbers = [f"{number}.png" for number in range(100)]
    assert len(burst_pairs(shots(1, 100), numbers, [""] * 100).pairs) == 0


@pytest.mark.parametrize("each", [3, 25])
def test_chance_resemblances_in_small_sets_are_no_bursts(each: int) -> None:
    """Three pairs of such pictures in a hundred are alike; the level of the test is 1 %."""
    series = [str(k // each) for k in range(2 * each)]
    names = [f"{one}/{k % each}.jpg" for k, one in enumerate(series)]
    linked = 0
    for seed in range(50):
        images = gaussian_filter(photos(2 * each, seed), (0, 2, 2))
        linked += len(burst_pairs(images, names, series).pairs) > 0
    assert linked <= 1


def test_shots_of_one_subject_are_found_where_each_has_its_own_numbers() -> None:
    names = [f"P{k // 3:02d}_{k % 3}.jpg" for k in range(60)]
    found = burst_pairs(shots(20, 3), names, ["cat"] * 60)
    assert found.pairs.tolist() == [[i, i + 1] for i in range(59) if i % 3 != 2]
