"""Descriptors, against scikit-image's own words on single pictures and against what they mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.color import rgb2hsv
from skimage.feature import graycomatrix, hog, local_binary_pattern

from src.features.descriptors.colour import Colour
from src.features.descriptors.hog import Hog
from src.features.descriptors.lbp import Lbp
from src.features.descriptors.picture import cells, luminance
from src.features.descriptors.raw import Raw
from src.features.descriptors.scattering import Scattering
from src.features.descriptors.texture import Gabor, Haralick
from src.features.fusion import extractors_of
from tests.features.pictures import pictures

ALL = [
    Hog(orientations=9, cells=4, block=2),
    Lbp(radius=1, grid=3),
    Colour(bins=8, grid=2),
    Gabor(wavelengths=(3.0, 5.0), orientations=4, grid=2),
    Haralick(levels=8, distances=(1, 2)),
    Scattering(octaves=2, orientations=4, grid=3, side=16),
    Raw(side=10),
]
SHAPES = [(20, 28, 3), (8, 8, 1), (2, 9, 1), (33, 17, 3), (2, 2, 3)]


def picture(channels: int = 3) -> np.ndarray:
    return pictures(1, channels)[0].transpose(1, 2, 0).astype(np.float32) / 255


@pytest.mark.parametrize("descriptor", ALL, ids=lambda d: type(d).__name__)
@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_of_any_shape_have_finite_numbers(descriptor, shape: tuple[int, int, int]) -> None:
    for image in (np.random.default_rng(0).random(shape, np.float32), np.ones(shape, np.float32)):
        found = descriptor(image)
        assert found.dtype == np.float32 and found.ndim == 1 and np.isfinite(found).all()
        np.testing.assert_array_equal(descriptor(image), found)


@pytest.mark.parametrize("channels", [1, 3])
def test_hog_is_scikit_images(channels: int) -> None:
    image = picture(channels)
    found = Hog(orientations=9, cells=5, block=2)(image)
    plain = image[:, :, 0] if channels == 1 else image
    expected = hog(
        plain,
        orientations=9,
        pixels_per_cell=(4, 4),
        cells_per_block=(2, 2),
        channel_axis=None if channels == 1 else -1,
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(found) == (5 - 1) * (7 - 1) * 4 * 9


def test_lbp_is_scikit_images() -> None:
    image = picture(1)
    grey = np.rint(255 * image[:, :, 0]).astype(np.uint8)
    codes = local_binary_pattern(grey, 8, 1, "uniform").astype(int)
    expected = np.bincount(codes[:10, :14].ravel(), minlength=10) / 140
    np.testing.assert_allclose(Lbp(radius=1, grid=2)(image)[:10], expected, atol=1e-6)


@given(arrays(np.uint8, (12, 9, 3)), st.integers(1, 4))
def test_histograms_sum_to_one_in_every_cell(image: np.ndarray, grid: int) -> None:
    floats = image.astype(np.float32) / 255
    patterns = Lbp(radius=1, grid=grid)(floats).reshape(-1, 10)
    colours = Colour(bins=5, grid=grid)(floats).reshape(-1, 5)
    assert len(patterns) == grid**2 and len(colours) == 3 * grid**2
    np.testing.assert_allclose(patterns.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(colours.sum(axis=1), 1, atol=1e-5)


def test_colours_are_counted_by_hue_saturation_and_value() -> None:
    image = picture()
    expected = [np.histogram(c, 4, (0, 1))[0] / c.size for c in rgb2hsv(image).transpose(2, 0, 1)]
    np.testing.assert_allclose(Colour(bins=4, grid=1)(image), np.concatenate(expected), atol=1e-6)
    red = np.zeros((4, 4, 3), np.float32)
    red[:, :, 0] = 1
    np.testing.assert_array_equal(Colour(bins=2, grid=1)(red), [1, 0, 0, 1, 0, 1])


def test_gabor_answers_to_its_own_wave_and_not_to_plain_areas() -> None:
    places = np.arange(32)
    wave = np.tile(0.5 + 0.5 * np.sin(2 * np.pi * places / 6), (32, 1)).astype(np.float32)
    found = Gabor(wavelengths=(3.0, 6.0), orientations=2, grid=1)
    means = found(wave[:, :, None])[::2]  # of (3, 0°), (3, 90°), (6, 0°), (6, 90°)
    assert means.argmax() == 2
    turned = found(wave.T[:, :, None].copy())[::2]
    assert turned.argmax() == 3
    assert np.abs(found(np.full((32, 32, 1), 0.7, np.float32))).max() < 1e-5


def test_haralick_is_what_the_definition_says() -> None:
    image = picture(1)
    codes = np.minimum(image[:, :, 0] * 4, 3).astype(np.uint8)
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    pairs = graycomatrix(codes, [1], angles, levels=4, symmetric=True, normed=True)[:, :, 0]
    rows, columns = np.indices((4, 4))
    contrast = (pairs * ((rows - columns) ** 2)[:, :, None]).sum(axis=(0, 1))
    homogeneity = (pairs / (1 + (rows - columns) ** 2)[:, :, None]).sum(axis=(0, 1))
    found = Haralick(levels=4, distances=(1,))(image)
    assert len(found) == 10
    expected = [contrast.mean(), np.ptp(contrast)]
    np.testing.assert_allclose(found[:2], expected, rtol=1e-5)
    np.testing.assert_allclose(found[4:6], [homogeneity.mean(), np.ptp(homogeneity)], rtol=1e-5)


def test_raw_is_the_picture_or_a_smaller_one() -> None:
    image = picture()
    np.testing.assert_array_equal(Raw(side=64)(image), image.ravel())
    small = Raw(side=7)(image).reshape(7, 7, 3)
    np.testing.assert_allclose(small.mean(), image.mean(), atol=0.05)


def test_brightness_is_pillows_grey() -> None:
    image = pictures(1)[0].transpose(1, 2, 0)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    floats = image.astype(np.float32) / 255
    np.testing.assert_allclose(255 * luminance(floats), grey, atol=0.51)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_cells_cover_a_plane_once(height: int, width: int, grid: int) -> None:
    plane = np.arange(height * width).reshape(height, width)
    found = list(cells(plane, grid))
    assert sorted(np.concatenate([c.ravel() for c in found])) == list(range(height * width))
    assert len(found) == min(grid, height) * min(grid, width)


SETTINGS = {
    "hog": {"orientations": 9, "cells": [4, 2], "block": 2},
    "lbp": {"radius": 1, "grid": 2},
    "colour": {"bins": 4, "grid": 2},
    "gabor": {"wavelengths": [3.0], "orientations": 2, "grid": 1},
    "haralick": {"levels": 8, "distances": [1]},
    "scattering": {"octaves": 2, "orientations": 2, "grid": 2, "side": 16},
    "raw": {"side": 8},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_batch_is_described_picture_by_picture(name: str) -> None:
    images = pictures()
    for extractor in extractors_of([name], SETTINGS):
        together = extractor(images)
        alone = np.concatenate([extractor(image[None]) for image in images])
        np.testing.assert_array_equal(together, alone)
        assert len(np.unique(together, axis=0)) == len(images)


def test_each_number_of_cells_is_a_descriptor_of_its_own() -> None:
    found = extractors_of(["raw", "hog"], SETTINGS)
    assert [e.name for e in found] == ["raw", "hog", "hog"]
    assert [e.identity["cells"] for e in found[1:]] == [4, 2]
    with pytest.raises(ValueError, match="no feature 'sift'"):
        extractors_of(["sift"], {"sift": {}})
