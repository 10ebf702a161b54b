from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from src.models.fcn import FCN, DenseFCN

CHANNELS = [4, 8, 8, 8, 12]


@pytest.mark.parametrize(
    ("image_size", "blocks"),
    [((8, 8), 3), ((28, 28), 4), ((8, 100), 3), ((32, 32), 5), ((99, 99), 5)],
)
def test_small_pictures_get_fewer_blocks(image_size: tuple[int, int], blocks: int) -> None:
    network = FCN(1, 3, image_size, channels=CHANNELS, dropout=0.0)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [*CHANNELS[:blocks], 3]
    assert sum(isinstance(m, nn.MaxPool2d) for m in network.modules()) == blocks


@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_score_maps_of_any_size_average_to_the_logits(height: int, width: int) -> None:
    network = FCN(2, 3, (32, 32), channels=CHANNELS, dropout=0.0).eval()
    images = torch.randn(2, 2, height, width)
    with torch.no_grad():
        scores = network.score_maps(images)
        logits = network(images)
    assert scores.shape == (2, 3, -(-height // 32), -(-width // 32))
    torch.testing.assert_close(scores.flatten(2).mean(2), logits)


def test_scores_stand_where_their_part_of_the_picture_is() -> None:
    network = FCN(1, 3, (32, 32), channels=CHANNELS[:2], dropout=0.0).eval()
    plain = torch.zeros(1, 1, 32, 32)
    marked = plain.clone()
    marked[:, :, 24:, 24:] = 5.0  # the lower right corner, two cells of 4x4 pixels wide
    with torch.no_grad():
        changed = (network.score_maps(marked) - network.score_maps(plain)).abs().sum(1)[0] > 1e-6
    assert changed[6:, 6:].all()
    assert not changed[:5].any() and not changed[:, :5].any()


def test_without_finer_scores_pixels_get_the_enlarged_score_maps() -> None:
    torch.manual_seed(0)
    network = DenseFCN(2, 3, (32, 32), channels=CHANNELS[:3], dropout=0.0).eval()
    images = torch.randn(2, 2, 24, 40)
    with torch.no_grad():
        logits, expected = network(images), network.score_maps(images)
        for _ in range(3):
            size = [2 * side for side in expected.shape[2:]]
            expected = F.interpolate(expected, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected)


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_the_padding_of_odd_sizes_moves_no_pixel(height: int, width: int) -> None:
    # Each block keeps the largest value of 2x2 pixels, and each score is that value.
    network = DenseFCN(1, 2, (32, 32), channels=[1, 1], dropout=0.0).eval()
    for name, tensor in network.state_dict().items():
        if name.startswith("blocks") and name.endswith("0.weight"):
            tensor.zero_()[..., 1, 1] = 1.0
        elif name.endswith("weight"):
            tensor.fill_(1.0)
    images = torch.zeros(1, 1, height, width)
    images[..., height // 2 :, width // 2 :] = 1.0
    whole = F.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(network(images), network(whole)[..., :height, :width])
