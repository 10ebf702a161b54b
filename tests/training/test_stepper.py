"""The range test on a problem whose best rate is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from src.data.loading.loaders import Batch
from src.training.stepper import Stepper, range_test
from src.training.task import ClassificationTask


class Bowl(nn.Module):
    """Its logit-free loss is curvature/2 * |w|^2: SGD diverges beyond a rate of 2/curvature."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(10))

    def forward(self, images: Tensor) -> Tensor:
        return self.w.expand(len(images), -1)


class Height(nn.Module):
    def __init__(self, curvature: float) -> None:
        super().__init__()
        self.curvature = curvature

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.curvature / 2 * logits.square().sum(1).mean()


def stepper(curvature: float, shares: tuple[float, ...] = (1.0,)) -> Stepper:
    task = ClassificationTask(
        Bowl(),
        loss=Height(curvature),
        mean=[0.5],
        std=[0.3],
        augment=None,
        make_optimizer=lambda network: torch.optim.SGD(
            [{"params": [p], "lr": 0.1 * s} for p, s in zip(network.parameters(), shares)], lr=0.1
        ),
        make_schedule=lambda total: lambda step: 1.0,
        seed=0,
        memory_format=torch.contiguous_format,
    )
    return Stepper(task, precision="float32", device=torch.device("cpu"), gradient_clip=None)


def batches() -> Iterator[Batch]:
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    while True:
        yield Batch(images, torch.zeros(4, dtype=torch.int64), torch.arange(4), 0)


@pytest.mark.parametrize("curvature", [1.0, 10.0, 100.0])
def test_the_suggestion_lies_below_where_training_diverges(curvature: float) -> None:
    found = range_test(stepper(curvature), batches())
    assert found.given == 0.1
    assert 0.01 / curvature < found.suggestion < 2 / curvature
    assert list(found.rates) == sorted(found.rates) and len(found.rates) == len(found.losses)
    # It ends soon after the loss has turned, not at the end of the range.
    assert found.rates[-1] < 200 / curvature


def test_rates_of_groups_keep_their_proportions() -> None:
    task = stepper(1.0)
    task.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.01})
    seen = []

    def watched() -> Iterator[Batch]:
        for batch in batches():
            seen.append([group["lr"] for group in task.optimizer.param_groups])
            yield batch

    found = range_test(task, watched())
    assert all(small == pytest.approx(0.1 * large) for large, small in seen)
    assert found.given == 0.1


class Rising(nn.Module):
    calls = 0

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return 0 * logits.sum() + self.calls


def test_a_loss_that_only_rises_gives_no_rate() -> None:
    rising = stepper(1.0)
    rising.task.loss = Rising()
    with pytest.raises(ValueError, match="rose from the first step"):
        range_test(rising, batches())
