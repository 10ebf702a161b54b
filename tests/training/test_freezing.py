"""What stands still stays bit for bit what it was; what does not is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from src.training.freezing import Freezing


class Net(nn.Module):
    head_prefixes = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.middle = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.middle(self.stem(images)))
        return logits


def changed(network: Net, act: Callable[[], None]) -> set[str]:
    """Names of the parameters and buffers that `act` and three steps of training change."""
    act()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        loss = nn.functional.cross_entropy(network(torch.randn(8, 1, 8, 8)), torch.arange(8) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}


def modules_of(names: set[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in names}


@pytest.fixture
def network() -> Net:
    torch.manual_seed(0)
    return Net()


def test_nothing_is_frozen_unless_asked(network: Net) -> None:
    freezing = Freezing(network, network.head_prefixes)
    trained = changed(network, lambda: freezing.apply(head_alone=False))
    assert trained == set(network.state_dict())


def test_the_head_alone_is_trained_and_then_everything(network: Net) -> None:
    freezing = Freezing(network, network.head_prefixes)
    first = changed(network, lambda: freezing.apply(head_alone=True))
    assert modules_of(first) == {"head.1", "head.2"}
    assert not network.stem[2].training and network.head[1].training
    then = changed(network, lambda: freezing.apply(head_alone=False))
    assert then == set(network.state_dict()) and network.stem[1].training


def test_frozen_stages_stay_whatever_else_thaws(network: Net) -> None:
    freezing = Freezing(network, network.head_prefixes, stages=1)
    for alone in (True, False):
        trained = changed(network, lambda alone=alone: freezing.apply(head_alone=alone))
        assert not any(name.startswith("stem.") for name in trained)
    assert modules_of(trained) == {"middle.0", "middle.1", "head.1", "head.2"}
    assert not network.stem[2].training and network.middle[2].training


def test_norms_keep_their_statistics_but_not_their_weights(network: Net) -> None:
    freezing = Freezing(network, network.head_prefixes, norm=True)
    trained = changed(network, lambda: freezing.apply(head_alone=False))
    kept = set(network.state_dict()) - trained
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert kept == {f"{m}.1.{s}" for m in ("stem", "middle") for s in statistics}


def test_a_network_with_nothing_left_to_train_is_refused(network: Net) -> None:
    with pytest.raises(ValueError, match="frozen_stages is 2"):
        Freezing(network, network.head_prefixes, stages=2)
