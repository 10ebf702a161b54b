"""Steps, their gradients, and the range test on a problem whose best rate is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from src.data.loading.loaders import Batch
from src.training.freezing import Freezing, head_prefixes
from src.training.stepper import Stepper, range_test
from src.training.task import ClassificationTask
from tests.training.test_training_plan import CPU, task


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


class Normed(nn.Module):
    head_prefixes = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.head = nn.Linear(1, 3)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.head(self.norm(images).mean((2, 3)))
        return found


def stepper(
    curvature: float,
    shares: tuple[float, ...] = (1.0,),
    network: nn.Module | None = None,
    norm: bool = False,
) -> Stepper:
    trained = network or Bowl()
    task = ClassificationTask(
        trained,
        {"mean": [0.5], "std": [0.3]},
        loss=nn.CrossEntropyLoss() if network else Height(curvature),
        augment=None,
        make_optimizer=lambda network: torch.optim.SGD(
            [{"params": [p], "lr": 0.1 * s} for p, s in zip(network.parameters(), shares)], lr=0.1
        ),
        make_schedule=lambda total: lambda step: 1.0,
        seed=0,
        memory_format=torch.contiguous_format,
        freezing=Freezing(trained, head_prefixes(trained), norm=norm),
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


def test_what_is_frozen_stays_so() -> None:
    network = Normed()
    for kept in (True, False):
        measured = stepper(1.0, network=network, norm=kept)
        before = network.norm.running_mean.clone()  # type: ignore[union-attr]
        measured.step(next(batches()))
        assert torch.equal(network.norm.running_mean, before) == kept  # type: ignore[arg-type]


def test_a_step_of_several_batches_is_one_of_their_pictures() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8)
    whole = Batch(images, torch.arange(12) % 3, torch.arange(12), 0)
    parts = [Batch(*(t[at : at + 4] for t in whole[:3]), 0) for at in (0, 4, 8)]
    found = []
    for given in ([whole], parts):
        torch.manual_seed(1)
        measured = stepper(1.0, (1.0,) * 4, network=Normed(), norm=True)
        loss = measured.step(*given)
        found.append([loss, *(p.detach() for p in measured.task.network.parameters())])
    torch.testing.assert_close(found[0], found[1])


def test_a_range_test_accumulates() -> None:
    taken = 0

    def counted() -> Iterator[Batch]:
        nonlocal taken
        for batch in batches():
            taken += 1
            yield batch

    found = range_test(stepper(1.0), counted(), accumulate=3)
    assert found.suggestion == range_test(stepper(1.0), batches()).suggestion
    assert taken in (3 * len(found.rates), 3 * len(found.rates) + 3)


def labelled() -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (32, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.arange(32) % 3, torch.arange(32), 0)


def test_a_steppers_gradient_is_that_of_the_loss_and_leaves_the_weights() -> None:
    batch = labelled()
    stepper = Stepper(task(), precision="float32", device=CPU, gradient_clip=None)
    before = [p.clone() for p in stepper.task.network.parameters()]
    loss, gradient = stepper.gradient(batch)
    x = ((batch.images / 255 - 0.5) / 0.3).flatten(1).double()
    weight, bias = (p.detach().double() for p in stepper.task.network.parameters())
    probs = torch.softmax(x @ weight.T + bias, 1)
    errors = (probs - nn.functional.one_hot(batch.targets, 3)) / 32
    torch.testing.assert_close(gradient[:-3], (errors.T @ x).flatten(), rtol=1e-4, atol=1e-6)
    assert loss == pytest.approx(
        float(-probs.log()[torch.arange(32), batch.targets].mean()), rel=1e-5
    )
    for old, new in zip(before, stepper.task.network.parameters()):
        assert torch.equal(old, new)


def test_a_step_is_the_optimizers_and_heeds_the_clip() -> None:
    batch = labelled()
    free = Stepper(task(), precision="float32", device=CPU, gradient_clip=None)
    clipped = Stepper(task(), precision="float32", device=CPU, gradient_clip=1e-3)
    start = torch.cat([p.detach().flatten() for p in free.task.network.parameters()])
    _, gradient = free.gradient(batch)
    for stepper, length in ((free, float(gradient.norm())), (clipped, 1e-3)):
        stepper.step(batch)
        now = torch.cat([p.detach().flatten() for p in stepper.task.network.parameters()])
        assert float((now - start).norm()) == pytest.approx(0.1 * length, rel=1e-3)
