from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from src.models.fcn import FCN

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
