from __future__ import annotations

from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from src.models.fcn import DenseFCN
from src.training.sliding_windows import sliding_windows


def pointwise(images: Tensor) -> Tensor:
    """Three classes, from each pixel alone."""
    return torch.stack([images[:, 0], images.square().sum(1), images[:, -1].sin()], dim=1)


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    window=st.tuples(st.integers(1, 20), st.integers(1, 50)),
    count=st.integers(1, 6),
)
def test_a_network_that_sees_single_pixels_answers_as_of_the_whole(
    size: tuple[int, int], window: tuple[int, int], count: int
) -> None:
    images = torch.randn(count, 2, *size)
    found = sliding_windows(pointwise, images, window)
    torch.testing.assert_close(found, pointwise(images), rtol=0, atol=0)


def test_the_mean_is_weighted_by_the_distance_to_the_border() -> None:
    calls = iter(range(1000))

    def numbered(windows: Tensor) -> Tensor:
        return torch.cat([torch.full_like(one[None], float(next(calls))) for one in windows])

    height, width, side = 11, 14, 6
    found = sliding_windows(numbered, torch.zeros(1, 1, height, width), (side, side))
    tops, lefts = [0, 2, 5], [0, 2, 5, 8]
    ramp = torch.tensor([1.0, 2.0, 3.0, 3.0, 2.0, 1.0])
    total, weights = torch.zeros(height, width), torch.zeros(height, width)
    for number, (y, x) in enumerate(product(tops, lefts)):
        total[y : y + side, x : x + side] += number * ramp[:, None] * ramp
        weights[y : y + side, x : x + side] += ramp[:, None] * ramp
    torch.testing.assert_close(found[0, 0], total / weights)
    assert next(calls) == len(tops) * len(lefts)


def test_there_are_no_seams() -> None:
    """Windows that disagree most, each about its own borders, are led into each other."""

    def place_in_window(windows: Tensor) -> Tensor:
        return torch.linspace(0, 1, windows.shape[-1]).expand_as(windows)

    found = sliding_windows(place_in_window, torch.zeros(1, 1, 8, 200), (8, 40))
    assert float(found.diff().abs().max()) < 0.1


def test_a_network_answers_within_large_pictures_as_of_the_whole() -> None:
    torch.manual_seed(0)
    network = DenseFCN(1, 2, (32, 32), channels=[4, 4], dropout=0.0).eval()
    for skip in network.skips.parameters():
        nn.init.normal_(skip)
    images = torch.randn(2, 1, 96, 120)
    with torch.no_grad():
        whole = network(images)
    error = (sliding_windows(network, images, (48, 48)) - whole).abs().mean()
    assert float(error) < 0.01 * float(whole.std())
    torch.testing.assert_close(sliding_windows(network, images, (200, 200)), whole)


def test_no_more_windows_are_computed_at_once_than_memory_is_meant_for() -> None:
    sizes = []

    def watched(windows: Tensor) -> Tensor:
        sizes.append(tuple(windows.shape))
        return windows

    sliding_windows(watched, torch.zeros(1, 1, 100, 100), (10, 10))
    assert {size[1:] for size in sizes} == {(1, 10, 10)}
    assert max(size[0] for size in sizes) == 4
