"""Training, validation and prediction on a GPU, with tensors that have a device and no data, and on
a CPU by what they would fetch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from benchmarks.gpu.dispatches import Operations
from src.config.compose import read_run_settings
from src.data.loading.loaders import Batch, BatchLoader, BatchOrder
from src.runs import build
from src.targets import kind_of
from src.training import inference
from src.training.frozen_front import StoredFront
from src.training.inference import on_host, predict
from src.training.pixels import CollectedPixels, predict_pixels
from src.training.task import ClassificationTask
from src.training.totals import CollectedAnswers, RunningTotals, ValidationMetrics
from tests.fake_tensors import forget_constants

GPU = torch.device("cuda")


def to_gpu(network: nn.Module) -> None:
    """Replace parameters and buffers by tensors of the same shapes that are said to lie there."""
    for module in network.modules():
        for name, one in module.named_parameters(recurse=False):
            there = torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device=GPU)
            module.register_parameter(name, nn.Parameter(there, one.requires_grad))
        for name, one in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(one.shape, dtype=one.dtype, device=GPU))


@pytest.fixture(autouse=True)
def sgd_without_data() -> Iterator[None]:
    """torch 2.11 knows of no fused SGD for tensors without data; it returns nothing."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_fused_sgd_", lambda *given, **settings: None, "Meta")
    yield
    library._destroy()


# To launch an operation costs 20 to 50 us on a GPU, so a step of small pictures takes as long as it
# has operations. The bounds are a twentieth above the numbers that they were written for: what a
# step gains by more operations has to be worth them, and is to be said where a bound is raised.
# Those of the network and of Muon's matrices count here, though real devices launch them as graphs,
# for which Muon pads no matrices any more to take fewer.
@pytest.mark.parametrize(
    ("overrides", "most"),
    [
        (["recipe=speedrun"], 175),
        (["model=cnn"], 334),
        (["model=cnn", "augment=strong"], 436),
        (["model=vit", "augment=photo"], 637),
    ],
)
def test_a_step_mixes_no_devices_waits_for_nothing_and_launches_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], most: int
) -> None:
    """Without the backward pass, which needs a real device: what asks for a value raises."""
    overrides = [
        *overrides,
        "data=digits",
        "data.image_size=32",
        "data.channels=3",
        "runtime=float32",
    ]
    settings = read_run_settings([*overrides, f"data.cache_dir={tmp_path}"])
    task = build.build_task(settings, build.build_data(settings))
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.Generator(),))
    forget_constants()
    with FakeTensorMode():
        to_gpu(task)
        images = torch.empty(64, 3, 32, 32, dtype=torch.uint8, device=GPU)
        loader = BatchLoader(
            images, np.arange(64) % 10, BatchOrder(np.arange(64), batch_size=16, training=True)
        )
        optimizer = task.make_optimizer(task.network)
        task.network.train()
        for batch in loader:
            with Operations() as forward:
                loss = task.training_step(batch, batch.step)
            for parameter in task.network.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.empty_like(parameter)
            nn.utils.clip_grad_norm_(task.network.parameters(), 1.0)
            with Operations() as update:
                optimizer.step()
                optimizer.zero_grad()
                if task.average is not None:
                    task.average.update(task.network)
            assert loss.device.type == "cuda"
        counts = [each.counts.total() for each in (forward, update)]
        assert sum(counts) <= most, counts
        assert task.totals["train"].samples == 64
    forget_constants()


@pytest.mark.parametrize(
    ("totals", "shape"),
    [
        (RunningTotals(), (4, 3)),
        (
            CollectedAnswers(ValidationMetrics(kind_of("single"), "abc", "val/auc"), "softmax"),
            (4, 3),
        ),
        (CollectedPixels(ValidationMetrics(kind_of("dense"), "abc", "val/log_loss")), (4, 3, 8, 8)),
    ],
    ids=["accuracy", "auc", "pixels"],
)
def test_a_validation_step_waits_for_nothing(totals: RunningTotals, shape: tuple[int, ...]) -> None:
    with FakeTensorMode():
        logits = torch.empty(shape, device=GPU)
        targets = torch.empty(shape[0], *shape[2:], dtype=torch.int64, device=GPU)
        with Operations() as asked, Fetches() as fetches:
            totals.add(torch.empty((), device=GPU), logits, targets)
    assert not fetches.events and "_local_scalar_dense" not in str(asked.names)


def test_stored_outputs_of_frozen_stages_are_read_without_waiting() -> None:
    with FakeTensorMode(), Fetches() as fetches:
        views = torch.empty(2, 9, 4, dtype=torch.float16, device=GPU)
        front = StoredFront(views, torch.arange(9, device=GPU), nn.Identity())
        found = front.logits(torch.arange(5, device=GPU), 1)
    assert found.shape == (5, 4) and found.device.type == "cuda" and not fetches.events


class Fetches(TorchFunctionMode):
    """Notes the tensors that are fetched from their device, among other events."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        left = func is Tensor.to and args[0].device != found.device and found.device.type == "cpu"
        if left or func in (Tensor.cpu, Tensor.numpy, Tensor.item, Tensor.tolist):
            self.events.append("fetch")
        return found


@pytest.mark.parametrize("pixels", [False, True])
def test_predictions_are_fetched_when_all_are_asked_for(pixels: bool) -> None:
    layers = [nn.Conv2d(1, 3, 1)] if pixels else [nn.Flatten(), nn.Linear(16, 3)]
    task = ClassificationTask(
        nn.Sequential(*layers),
        {"mean": [0.5], "std": [0.5]},
        loss=nn.CrossEntropyLoss(),
        augment=None,
        make_optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=0.1),
        make_schedule=lambda steps: lambda step: 1.0,
        seed=0,
    )
    images = torch.randint(256, (5, 2, 1, 4, 4), dtype=torch.uint8)
    targets = torch.zeros(5, 2, *((4, 4) if pixels else ()), dtype=torch.int64)
    batches = [
        Batch(images[step], targets[step], torch.arange(2) + 2 * step, step) for step in range(5)
    ]
    with Fetches() as fetches:
        task.network.register_forward_hook(lambda *_: fetches.events.append("forward"))
        answers, *_, ids = (predict_pixels if pixels else predict)(
            task, batches, device=torch.device("cpu")
        )
    assert [event for event, _ in groupby(fetches.events)] == ["forward", "fetch"]
    assert ids.tolist() == [*range(10)]
    for step, batch in enumerate(batches):  # alone, a batch has the same answers
        alone, *_ = (predict_pixels if pixels else predict)(
            task, [batch], device=torch.device("cpu")
        )
        np.testing.assert_array_equal(answers[2 * step : 2 * step + 2], alone)


def test_so_much_waits_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_HELD_BYTES", 100)
    asked: list[int] = []

    def batches() -> Iterator[tuple[Tensor, ...]]:
        for number in range(7):
            asked.append(number)
            yield torch.full((4,), number), torch.zeros(2)  # 40 bytes

    seen = [(int(first[0]), len(asked)) for first, _ in on_host(batches())]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 6), (4, 6), (5, 6), (6, 7)]
