from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from src.models.patches import default_patch_size, grid_size, to_patches

sides = st.integers(1, 9)


@given(height=sides, width=sides, patch_height=sides, patch_width=sides, channels=st.integers(1, 3))
def test_patches_are_the_windows_of_the_padded_picture(
    height: int, width: int, patch_height: int, patch_width: int, channels: int
) -> None:
    images = torch.arange(2.0 * channels * height * width).reshape(2, channels, height, width) + 1
    patches = to_patches(images, (patch_height, patch_width))
    rows, columns = grid_size((height, width), (patch_height, patch_width))
    assert patches.shape == (2, rows, columns, channels * patch_height * patch_width)
    for row in range(rows):
        for column in range(columns):
            window = torch.zeros(2, channels, patch_height, patch_width)
            top, left = row * patch_height, column * patch_width
            seen = images[:, :, top : top + patch_height, left : left + patch_width]
            window[:, :, : seen.shape[2], : seen.shape[3]] = seen
            torch.testing.assert_close(patches[:, row, column], window.flatten(1))


@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_the_default_patch_is_the_smallest_that_gives_at_most_64(height: int, width: int) -> None:
    side = default_patch_size((height, width))
    assert math.prod(grid_size((height, width), (side, side))) <= 64
    assert side == 2 or math.prod(grid_size((height, width), (side // 2, side // 2))) > 64
