"""Scattering, against wavelets laid over the picture one by one and against its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import fftconvolve

from src.features.descriptors.scattering import Scattering
from tests.features.pictures import pictures

FLOOR = 0.01


def described(picture: np.ndarray, octaves: int = 2, orientations: int = 4) -> np.ndarray:
    """(planes, cells, cells) of a picture (28, 28)."""
    found = Scattering(octaves, orientations, grid=7, side=64)(picture[:, :, None])
    return found.reshape(-1, 7, 7)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((28, 28), np.float32)


def morlet(octave: int, angle: float) -> np.ndarray:
    """(41, 41) the wavelet at its places: a wave in a Gaussian, less what plain areas leave."""
    y, x = np.mgrid[-20:21, -20:21]
    along = x * np.cos(angle) + y * np.sin(angle)
    envelope = np.exp(-(x**2 + y**2) / (2 * (0.8 * 2**octave) ** 2))
    wave = envelope * np.exp(1j * 3 * np.pi / 4 / 2**octave * along)
    return (wave - envelope * (wave.sum() / envelope.sum())) / envelope.sum()


def around_cells(plane: np.ndarray) -> np.ndarray:
    """(7, 7) Gaussian means of a plane (28, 28) around the centres of its 4x4 cells."""
    distance = np.arange(28) - (4 * np.arange(7)[:, None] + 1.5)
    weights = np.exp(-((distance / 1.6) ** 2) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ plane @ weights.T


@pytest.mark.parametrize(("octave", "turn"), [(0, 0), (0, 1), (1, 2), (1, 3)])
def test_the_first_order_is_the_modulus_of_waves_around_each_cell(octave: int, turn: int) -> None:
    # A black border keeps what is beyond the edges out of it.
    picture = np.pad(noise()[10:18, 10:18], 10)
    waves = np.abs(fftconvolve(picture, morlet(octave, np.pi * turn / 4), mode="same"))
    found = np.exp(described(picture)[1 + 4 * octave + turn]) - FLOOR
    np.testing.assert_allclose(found, around_cells(waves), atol=1e-3)


def test_the_second_order_is_the_same_of_the_first() -> None:
    picture = np.pad(noise()[10:18, 10:18], 10)
    fine = np.abs(fftconvolve(picture, morlet(0, np.pi / 4), mode="same"))
    waves = np.abs(fftconvolve(fine, morlet(1, np.pi / 2), mode="same"))
    # After the picture and its 2 x 4 waves: those of the second octave in the waves of each turn.
    found = np.exp(described(picture)[9 + 4 * 1 + 2]) - FLOOR
    np.testing.assert_allclose(found, around_cells(waves), atol=1e-3)


def test_a_plain_picture_has_its_brightness_and_no_waves() -> None:
    found = np.exp(described(np.full((28, 28), 0.6, np.float32))) - FLOOR
    np.testing.assert_allclose(found[0], 0.6, atol=1e-5)
    np.testing.assert_allclose(found[1:], 0, atol=1e-5)


def test_a_mirrored_picture_has_mirrored_cells_and_directions() -> None:
    mirrored = described(noise()[:, ::-1].copy())
    # Of four directions the upright and the level one stay, and the slanting ones change places.
    turned = np.array([0, 3, 2, 1])
    first = 1 + np.concatenate([turned, 4 + turned])
    second = 9 + (4 * turned[:, None] + turned).ravel()
    expected = described(noise())[np.concatenate([[0], first, second])][:, :, ::-1]
    np.testing.assert_allclose(mirrored, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "octaves", "orientations", "grid"),
    [
        ((70, 70), 3, 4, 7),
        ((40, 31), 3, 5, 7),
        ((28, 28), 6, 3, 7),
        ((8, 8), 3, 8, 2),
        ((6, 9), 1, 1, 7),
    ],
)
def test_a_picture_tells_what_its_mirror_image_has(
    size: tuple[int, int], octaves: int, orientations: int, grid: int
) -> None:
    scattering = Scattering(octaves, orientations, grid, side=64)
    images = np.random.default_rng(0).random((2, *size, 3), np.float32)
    rows = np.stack([scattering(image) for image in images])
    mirrored = np.stack([scattering(image[:, ::-1].copy()) for image in images])
    np.testing.assert_allclose(scattering.mirrored(rows, size), mirrored, atol=1e-5)
    assert np.abs(rows - mirrored).max() > 0.1


@pytest.mark.parametrize(("wavelength", "octave"), [(8 / 3, 0), (16 / 3, 1)])
def test_a_wave_is_found_at_its_octave_and_direction(wavelength: float, octave: int) -> None:
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * np.arange(28) / wavelength)
    upright = described(np.tile(wave, (28, 1)).astype(np.float32))[1:9].mean(axis=(1, 2))
    assert upright.argmax() == 4 * octave
    level = described(np.tile(wave[:, None], (1, 28)).astype(np.float32))[1:9].mean(axis=(1, 2))
    assert level.argmax() == 4 * octave + 2


def test_a_small_shift_changes_less_than_it_changes_the_pixels() -> None:
    (image,) = pictures(1, 1)
    picture = np.pad(image[0, :16, :16].astype(np.float32) / 255, 8)
    shifted = np.roll(picture, 1, axis=1)
    before, after = described(picture)[:, 1:-1, 1:-1], described(shifted)[:, 1:-1, 1:-1]
    moved = np.linalg.norm(after - before) / np.linalg.norm(before - before.mean())
    assert moved < 0.7 * np.linalg.norm(shifted - picture) / np.linalg.norm(
        picture - picture.mean()
    )


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((8, 8, 1), (1 + 4) * 4 * 4),  # cells of 2x2 pixels hold the narrowest waves only
        ((14, 28, 1), (1 + 4) * 7 * 7),
        ((200, 200, 3), (1 + 12 + 48) * 7 * 7),  # shrunk to 64x64
    ],
)
def test_cells_and_octaves_are_as_many_as_fit(shape: tuple[int, int, int], count: int) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    assert Scattering(octaves=3, orientations=4, grid=7, side=64)(image).shape == (count,)
