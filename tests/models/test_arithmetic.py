"""Depthwise convolutions, whose backward passes in half precision are slow on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from src.models.arithmetic import autocast, depthwise_in_float32
from tests.training.test_stepper import batches, stepper

CPU = torch.device("cpu")


def graph_of(images: Tensor, convolution: nn.Module) -> tuple[Tensor, torch.autograd.graph.Node]:
    """Return an answer, and the node of its convolution in the backward pass."""
    found: Tensor = convolution(images)
    node = found.grad_fn
    while node is not None and "Convolution" not in node.name():
        node = node.next_functions[0][0]
    assert node is not None
    return found, node


@pytest.mark.parametrize(("groups", "single"), [(6, True), (1, False), (3, False)])
def test_depthwise_convolutions_alone_keep_single_precision(groups: int, single: bool) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 6, 11, 9)
    convolution = nn.Conv2d(6, 6, 3, stride=2, groups=groups)
    with autocast(CPU, "bfloat16"), depthwise_in_float32(CPU):
        found, node = graph_of(images, convolution)
    assert found.dtype == torch.bfloat16
    saved = node._saved_input  # type: ignore[attr-defined]
    assert saved.dtype == (torch.float32 if single else torch.bfloat16)
    torch.testing.assert_close(found.float(), convolution(images), atol=0.02, rtol=0.02)


def test_without_autocast_nothing_is_changed() -> None:
    convolution = nn.Conv2d(6, 6, 3, groups=6).double()
    with depthwise_in_float32(CPU):
        found, _ = graph_of(torch.randn(4, 6, 9, 9, dtype=torch.float64), convolution)
    assert found.dtype == torch.float64


class Watched(nn.Module):
    """Remembers the precision in which its depthwise convolution is computed."""

    head_prefixes = ("head.",)

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.head = nn.Conv2d(4, 4, 3, groups=4), nn.Linear(4, 3)
        self.seen: list[torch.dtype] = []

    def forward(self, images: Tensor) -> Tensor:
        found, node = graph_of(images.expand(-1, 4, -1, -1), self.depthwise)
        self.seen.append(node._saved_input.dtype)  # type: ignore[attr-defined]
        logits: Tensor = self.head(found.mean((2, 3)))
        return logits


def test_training_steps_have_it() -> None:
    network = Watched()
    task = stepper(1.0, network=network).task
    with autocast(CPU, "bfloat16"):
        task.training_step(next(batches()), 0)
    assert network.seen == [torch.float32]
