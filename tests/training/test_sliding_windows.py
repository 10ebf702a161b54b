from __future__ import annotations

from itertools import product

import pytest
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
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.9]),
    batch_size=st.integers(1, 9),
    count=st.integers(1, 3),
)
def test_a_network_that_sees_single_pixels_answers_as_of_the_whole(
    size: tuple[int, int], window: tuple[int, int], overlap: float, batch_size: int, count: int
) -> None:
    images = torch.randn(count, 2, *size)
    found = sliding_windows(
        pointwise, images, window=window, overlap=overlap, batch_size=batch_size
    )
    torch.testing.assert_close(found, pointwise(images), rtol=0, atol=0)


def test_the_mean_is_weighted_by_the_distance_to_the_border() -> None:
    calls = iter(range(1000))

    def numbered(windows: Tensor) -> Tensor:
        return torch.cat([torch.full_like(one[None], float(next(calls))) for one in windows])

    height, width, side = 11, 14, 6
    found = sliding_windows(numbered, torch.zeros(1, 1, height, width), window=(side, side))
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

    images = torch.zeros(1, 1, 8, 200)
    jumps = [
        float(
            sliding_windows(place_in_window, images, window=(8, 40), overlap=o).diff().abs().max()
        )
        for o in (0.0, 0.5)
    ]
    assert jumps[0] > 0.9 and jumps[1] < 0.1


def test_a_network_answers_within_large_pictures_as_of_the_whole() -> None:
    torch.manual_seed(0)
    network = DenseFCN(1, 2, (32, 32), channels=[4, 4], dropout=0.0).eval()
    for skip in network.skips.parameters():
        nn.init.normal_(skip)
    images = torch.randn(2, 1, 96, 120)
    with torch.no_grad():
        whole = network(images)
    errors = [
        float((sliding_windows(network, images, window=(48, 48), overlap=o) - whole).abs().mean())
        for o in (0.0, 0.5)
    ]
    assert errors[1] < errors[0] / 2
    assert errors[1] < 0.01 * float(whole.std())
    torch.testing.assert_close(sliding_windows(network, images, window=(200, 200)), whole)


def test_no_more_windows_are_computed_at_once_than_asked_for() -> None:
    sizes = []

    def watched(windows: Tensor) -> Tensor:
        sizes.append(tuple(windows.shape))
        return windows

    sliding_windows(watched, torch.zeros(1, 1, 100, 100), window=(10, 10), batch_size=3)
    assert {size[1:] for size in sizes} == {(1, 10, 10)}
    assert max(size[0] for size in sizes) == 3


@pytest.mark.parametrize(
    "wrong", [{"overlap": 1.0}, {"overlap": -0.1}, {"window": (0, 4)}, {"batch_size": 0}]
)
def test_arguments_out_of_their_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sliding_windows(pointwise, torch.zeros(1, 1, 8, 8), **({"window": (4, 4)} | wrong))
