from __future__ import annotations

import pytest
import torch
from torch import nn

from src.training.soup import mean_of_weights, renew_batch_statistics


def test_floats_are_averaged_and_counts_are_kept() -> None:
    states = [
        {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)},
        {"w": torch.tensor([3.0, 0.0]), "n": torch.tensor(9)},
        {"w": torch.tensor([5.0, 1.0]), "n": torch.tensor(1)},
    ]
    found = mean_of_weights(states)
    assert found["w"].tolist() == [3.0, 1.0] and found["w"].dtype == torch.float32
    assert found["n"].item() == 3
    found["n"].zero_()
    assert states[0]["n"].item() == 3, "the mean shares memory with a member"


@pytest.mark.parametrize("other", [{"w": torch.zeros(3)}, {"v": torch.zeros(2)}])
def test_weights_of_another_network_are_refused(other: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="other names or shapes"):
        mean_of_weights([{"w": torch.zeros(2)}, other])


def test_statistics_are_those_of_the_pictures() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).eval()
    network[0].running_mean.fill_(100.0)
    batches = torch.randn(8, 64, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1
    state = torch.random.get_rng_state()
    renew_batch_statistics(network, list(batches))
    expected = batches.mean(dim=1).mean(dim=0)
    torch.testing.assert_close(network[0].running_mean, expected)
    torch.testing.assert_close(network[0].running_var, batches.var(dim=1).mean(dim=0))
    assert not network.training and torch.equal(torch.random.get_rng_state(), state)
