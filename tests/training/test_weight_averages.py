"""The averaged network against torch's own averaging, a weighted sum, and after a round trip."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from src.training.weight_averages import WeightAverage, mean_of_weights, renew_batch_statistics


def network_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def wander(network: nn.Module, step: int) -> None:
    """Stands in for a training step: other weights, other batch statistics."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape, generator=generator))
    network(torch.randn(8, 1, 3, 3, generator=generator))


def test_it_averages_as_torch_does_with_the_same_decays() -> None:
    network = network_of(0)
    ours = WeightAverage(network, decay=0.7)

    def lerp(average: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
        decay = min(0.7, int(count) / (int(count) + 9))
        return decay * average + (1 - decay) * value if average.is_floating_point() else value

    reference = AveragedModel(network, avg_fn=lerp, use_buffers=True)
    for step in range(40):
        wander(network, step)
        ours.update(network)
        reference.update_parameters(network)
    averaged = ours.network.state_dict()
    for name, value in reference.module.state_dict().items():
        torch.testing.assert_close(averaged[name], value, msg=name)


@given(decay=st.floats(0, 0.999), updates=st.integers(1, 60))
def test_an_average_is_a_weighted_sum_of_what_was_seen(decay: float, updates: int) -> None:
    network = nn.Linear(1, 1, bias=False).double()
    average = WeightAverage(network, decay)
    values = [float(i * i % 17) for i in range(updates)]
    shares = torch.zeros(updates, dtype=torch.float64)
    for n, value in enumerate(values):
        nn.init.constant_(network.weight, value)
        average.update(network)
        kept = min(decay, n / (n + 9))
        shares *= kept
        shares[n] = 1 - kept
    assert shares.sum().item() == pytest.approx(1)  # initial weights left no trace
    expected = (shares * torch.tensor(values, dtype=torch.float64)).sum()
    weight = next(average.network.parameters())
    assert weight.item() == pytest.approx(expected.item())


def test_the_average_leaves_the_network_alone() -> None:
    network = network_of(2)
    average = WeightAverage(network, decay=0.5)
    before = copy.deepcopy(network.state_dict())
    for _ in range(3):
        average.update(network)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(p.requires_grad for p in average.network.parameters())
    assert all(p.requires_grad for p in network.parameters())


def test_a_reloaded_average_continues_bit_for_bit() -> None:
    network = network_of(3)
    average = WeightAverage(network, decay=0.9)
    for step in range(5):
        wander(network, step)
        average.update(network)
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    resumed = WeightAverage(network_of(4), decay=0.9)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for step in range(5, 9):
        wander(network, step)
        average.update(network)
        resumed.update(network)
    one, other = average.network.state_dict(), resumed.network.state_dict()
    assert average.updates == resumed.updates == 9
    assert all(torch.equal(one[name], other[name]) for name in one)


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
    network = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3), nn.Dropout(0.5))
    network[0].running_mean.fill_(100.0)
    network[1].eval().running_mean.fill_(50.0)
    batches = torch.randn(8, 64, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1
    state = torch.random.get_rng_state()
    renew_batch_statistics(network, list(batches))
    expected = batches.mean(dim=1).mean(dim=0)
    torch.testing.assert_close(network[0].running_mean, expected)
    torch.testing.assert_close(network[0].running_var, batches.var(dim=1).mean(dim=0))
    assert network[0].training and network[0].momentum == 0.1
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not network[1].training and (network[1].running_mean == 50).all()


def test_an_infinite_mask_stays_infinite() -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
    average = WeightAverage(network, 0.9)
    for _ in range(3):
        average.update(network)
    assert torch.equal(average.network.mask, network.mask)  # type: ignore[arg-type]


def test_tensors_and_modules_that_were_replaced_are_averaged() -> None:
    """Moving and loading replace tensors, training on several devices replaces norms."""
    network = network_of(5)
    average = WeightAverage(network, decay=0.9)
    average.update(network)
    average.double()
    network.double()
    network.load_state_dict(network_of(6).double().state_dict(), assign=True)
    network[1] = nn.BatchNorm2d(4, dtype=torch.float64)  # type: ignore[index]
    nn.init.constant_(network[1].weight, 3.0)  # type: ignore[index, arg-type]
    average.locate(network)
    for _ in range(200):
        average.update(network)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(average.network.state_dict()[name], value, msg=name)
