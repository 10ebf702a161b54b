"""What Apple's GPU cannot do is not asked of it; a stand-in refuses as it does."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from src.data.loading.loaders import Batch
from src.features.embedding import NetworkFeatures
from src.machine.parallel import in_order
from src.targets import kind_of
from src.training.cost import wait_for
from src.training.inference import predict
from src.training.pixels import answers_of
from src.training.task import ClassificationTask, seed_generator
from src.training.totals import CollectedAnswers, RunningTotals, ValidationMetrics


class OnApple(Tensor):
    """A tensor that is on Apple's GPU, as far as double precision goes, until it is moved."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.device.__get__:  # type: ignore[attr-defined]
            return torch.device("mps")
        found = super().__torch_function__(func, types, args, kwargs or {})
        if func is Tensor.cpu:
            return found.as_subclass(Tensor)
        if isinstance(found, OnApple) and found.dtype == torch.float64:
            raise TypeError("the MPS framework doesn't support float64")
        return found


def on_apple(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(OnApple)


def test_the_stand_in_refuses() -> None:
    with pytest.raises(TypeError, match="float64"):
        on_apple(torch.zeros(2)).double()
    assert on_apple(torch.zeros(2)).cpu().double().dtype == torch.float64


def test_metrics_of_an_epoch_are_computed_elsewhere() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(12, 3), torch.randint(0, 2, (12, 3))
    found = []
    for place in (on_apple, Tensor.clone):
        metrics = ValidationMetrics(kind_of("multi"), ["a", "b", "c"], "val/map")
        totals = CollectedAnswers(metrics, "sigmoid")
        totals._answers.append((place(logits), place(targets)))
        totals._sums, totals.samples = torch.ones(2), 12
        found.append(totals.read())
    assert found[0] == found[1] and "map" in found[0]


def test_answers_about_pixels_are_summed_elsewhere() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    found = answers_of(on_apple(logits), on_apple(targets))
    np.testing.assert_array_equal(found, answers_of(logits, targets))


def test_a_step_is_timed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    wait_for(torch.device("cpu"))
    wait_for(torch.device("mps"))
    assert waited == [torch.device("mps")]


def test_pictures_go_there_before_their_memory_is_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy to Apple's GPU that does not block reads memory later, whoever has it then."""
    to = Tensor.to

    def blocking(tensor: Tensor, *args: Any, non_blocking: bool = False, **options: Any) -> Tensor:
        assert not non_blocking
        return to(tensor, *args, **options)

    monkeypatch.setattr(Tensor, "to", blocking)
    task = ClassificationTask(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 2)),
        {"mean": [0.5], "std": [0.5]},
        loss=nn.CrossEntropyLoss(),
        augment=None,
        make_optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=0.1),
        make_schedule=lambda steps: lambda step: 1.0,
        seed=0,
    )
    images = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    batches = [Batch(images, torch.zeros(4, dtype=torch.int64), torch.arange(4), 0)]
    probs, _, _ = predict(task, batches, device=torch.device("cpu"))
    assert probs.shape == (4, 2)


def test_totals_of_another_device_are_gone_on_with() -> None:
    totals = RunningTotals()
    totals.load_state_dict({"sums": torch.tensor([3.0, 1.0], dtype=torch.float64), "samples": 2})
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("mps"):
        totals.add(torch.empty(()), torch.empty(2, 3), torch.empty(2, dtype=torch.int64))
    assert totals._sums is not None
    assert [(one.device.type, one.dtype) for one in totals._sums] == [("mps", torch.float32)] * 2


class Small(nn.Module):
    head_prefixes = ()

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def test_one_thread_at_a_time_describes_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = {"target": "my.Small", "arguments": {}, "channels": 1, "image_size": (8, 8)}
    features = NetworkFeatures(
        Small(), metadata | {"mean": [0.5], "std": [0.5]}, torch.device("cpu")
    )
    features._ready()
    features.device = torch.device("mps")
    at_once, most, both = 0, 0, threading.Event()

    def rows(*_: Any) -> np.ndarray:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        both.wait(0.2)  # in which another thread would come as well
        at_once -= 1
        return np.zeros((1, 1), np.float32)

    monkeypatch.setattr(features, "_rows", rows)
    images = np.zeros((1, 1, 8, 8), np.uint8)
    assert len(list(in_order(features, [images, images], 2))) == 2
    assert most == 1


def test_dropout_is_seeded_where_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)
    seed_generator(torch.device("mps"), 5)
    assert seeds == [5]
    seed_generator(torch.device("cpu"), 5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
