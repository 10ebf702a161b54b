from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from src.models.whitened import WhitenedCNN


def pictures(count: int = 500) -> torch.Tensor:
    """Smooth pictures, whose neighbouring pixels are alike."""
    noise = torch.randn(count, 3, 12, 12)
    mixed = torch.einsum("dc,nchw->ndhw", torch.rand(3, 3), F.avg_pool2d(noise, 3, 1))
    return mixed / mixed.std()


def test_patches_come_out_uncorrelated_and_of_unit_variance() -> None:
    images = pictures()
    network = WhitenedCNN(3, 10, (10, 10), widths=[8])
    network.start_from(images)
    answers = F.conv2d(images, network.whiten.kernels)[:, :12].transpose(0, 1).flatten(1)
    covariance = answers @ answers.T / answers.shape[1]
    # Directions of small variance are held back: nothing is above 1, and nothing correlated.
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 1e-3
    assert covariance.diag().max() < 1.001 and covariance.diag().median() > 0.9
    torch.testing.assert_close(network.whiten.kernels[12:], -network.whiten.kernels[:12])


def test_the_first_layer_stays_as_the_pictures_set_it() -> None:
    network = WhitenedCNN(3, 10, (10, 10), widths=[8, 16])
    network.start_from(pictures(50))
    before = network.whiten.kernels.clone()
    assert "whiten.kernels" not in dict(network.named_parameters())
    restored = WhitenedCNN(3, 10, (10, 10), widths=[8, 16])
    restored.load_state_dict(network.state_dict())
    assert torch.equal(restored.whiten.kernels, before)


def test_a_block_begins_as_the_identity() -> None:
    network = WhitenedCNN(3, 10, (32, 32), widths=[64, 256, 256])
    first = network.blocks[1][0]
    maps = torch.randn(2, 64, 5, 5)
    torch.testing.assert_close(first(maps)[:, :64], maps)
    assert network.blocks(torch.randn(1, 24, 31, 31)).shape == (1, 256, 3, 3)


def test_pictures_without_a_patch_are_refused() -> None:
    with pytest.raises(ValueError, match="pictures of 2x2 pixels at least, and these have 1x40"):
        WhitenedCNN(3, 10, (1, 40), widths=[8])
    assert WhitenedCNN(3, 10, (2, 40), widths=[8])(torch.randn(2, 3, 2, 40)).shape == (2, 10)
