"""What launching kernels costs a training step, and what a captured graph of them would save.

A captured forward and backward pass is launched as one CUDA graph each
(`torch.cuda.make_graphed_callables`; Ng et al., "Accelerating PyTorch with CUDA Graphs", 2021). It
computes on batches of one shape and in one mode alone, and capturing it passes some batches through
the network, whose statistics are put back here.
"""

from __future__ import annotations

import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.gpu.photos import made_by_timm
from benchmarks.gpu.training import ON_GPU, device_work, profiled
from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.config.models import NetworkSettings
from src.runs.build.network import NetworkShape, build_network
from src.training.cost import wait_for

__all__ = ["NETWORKS", "Network", "captured", "graphs", "largest_difference", "launches"]

# Of the largest gradient; two eager passes differ by some thousandths in bfloat16.
_CLOSE = 0.02


@dataclass(frozen=True)
class Network:
    """A network to be trained: the project's by the name of its settings, else timm's.

    Attributes:
        name: of either.
        side: of the pictures in pixels.
        batch: pictures of a step.
    """

    name: str
    side: int
    batch: int

    def __str__(self) -> str:
        return f"{self.name}, forward and backward pass of {self.batch} pictures in bfloat16"

    def made(self) -> nn.Module:
        """Return the network for 10 classes, with random weights."""
        if self.side > 32:
            return made_by_timm(self.name, self.side, 10)
        model = read_run_settings([f"model={self.name}"]).model
        assert isinstance(model, NetworkSettings)
        return build_network(model, NetworkShape(3, 10, (self.side, self.side)))


NETWORKS = (
    Network("resnet18", 32, 1024),
    Network("whitened", 32, 1024),
    Network("vit_small_patch16_224", 224, 64),
)


def launches(
    device: torch.device,
    folder: Path,
    *,
    networks: Sequence[Network] = NETWORKS,
    steps: int = 20,
    rounds: int = 5,
    kinds: frozenset[str] = ON_GPU,
) -> Iterator[Row]:
    """Forward and backward passes alone: launched one by one, and as captured graphs.

    Args:
        device: of the passes.
        folder: for traces.
        networks: each a row.
        steps: of a round.
        rounds: of both, in turns.
        kinds: of a trace's events that count as launched.
    """
    issued, eager = [], []
    for one in networks:
        torch.manual_seed(0)
        network = one.made().to(device).to(memory_format=torch.channels_last).train()
        images = torch.randn(one.batch, 3, one.side, one.side, device=device)
        images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.arange(one.batch, device=device) % 10
        eager.append((network, images, labels))
        yield graphs(one, *eager[-1], steps, rounds, captured if device.type == "cuda" else None)
        issued.append(_seconds_to_issue(*eager[-1]))
    # At the end, for a profiler that was once on makes launches slow.
    for one, seconds, parts in zip(networks, issued, eager):
        with profiled(device, folder / "trace.json"):
            _pass(*parts)
        work = device_work(json.loads((folder / "trace.json").read_text()), kinds)
        yield Row(
            f"launches ({one})",
            f"{work.count} kernels, {1e3 * work.seconds:.2f} ms of device time, issued in "
            f"{1e3 * seconds:.2f} ms: {1e6 * seconds / work.count:.1f} us each",
            "issued in less than the device's time",
            seconds < work.seconds if device.type == "cuda" else None,
        )


def graphs(
    one: Network,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    steps: int,
    rounds: int,
    capture: Callable[[nn.Module, Tensor], nn.Module] | None,
) -> Row:
    """Time a network as it is and with captured graphs, in turns, and compare the gradients.

    Args:
        one: what to call it.
        network: in training mode.
        images, labels: (B, C, H, W) float32 and (B,) int64, on its device.
        steps, rounds: of both.
        capture: as `captured`; None where nothing can be.
    """
    what = f"captured as CUDA graphs ({one})"
    before = copy.deepcopy(network.state_dict())
    first = _passed(network, images, labels)
    network.load_state_dict(before)
    noise = largest_difference(_passed(network, images, labels), first)
    bar = max(_CLOSE, 3 * noise)
    told = f"differ by at most {bar:.2g}"
    if capture is None:
        return Row(what, "skipped: no CUDA", told, None)
    try:
        graphed = capture(copy.deepcopy(network), images)
    except RuntimeError as error:
        return Row(what, f"cannot be captured: {str(error).splitlines()[0]}", told, False)
    graphed.load_state_dict(before)
    difference = largest_difference(_passed(graphed, images, labels), first)
    rates: dict[str, list[float]] = {"eager": [], "graphed": []}
    for _ in range(rounds):
        for name, net in (("eager", network), ("graphed", graphed)):
            rates[name].append(one.batch / _seconds(net, images, labels, steps))
    gains = [new / old for old, new in zip(rates["eager"], rates["graphed"])]
    return Row(
        what,
        f"{spread(gains)} as fast: {statistics.median(rates['graphed']):,.0f} against "
        f"{statistics.median(rates['eager']):,.0f} images/s; gradients and batch statistics "
        f"differ by {difference:.1e} of a tensor's largest, two eager passes by {noise:.1e}",
        told,
        difference <= bar,
    )


def captured(network: nn.Module, images: Tensor) -> nn.Module:
    """Replace a network's forward pass in the mode that it is in, and its backward pass, by graphs.

    Args:
        network: on a GPU; its batch statistics take in three batches more. Its parameters and
            buffers must not be replaced afterwards, and its gradients lie where every pass writes.
        images: (B, C, H, W) float32, as every batch will be.
    """
    with _half(images.device):  # later batches are copied over the one that it is captured with
        graphed = torch.cuda.make_graphed_callables(network, (images.clone(),))
    assert isinstance(graphed, nn.Module)  # as one was given
    return graphed


def _half(device: torch.device) -> torch.autocast:
    # Graphs cannot be captured with casts of weights that are kept from one pass to the next.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def _pass(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    network.zero_grad(set_to_none=True)
    with _half(images.device):
        logits = network(images)
    nn.functional.cross_entropy(logits.float(), labels).backward()


def _passed(network: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Return copies of the gradients of one pass, and of the buffers after it, those of numbers."""
    _pass(network, images, labels)
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    return found + [b.clone() for b in network.buffers() if b.is_floating_point()]


def largest_difference(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return the largest difference of tensors, each by the largest number of the other's."""
    if len(some) != len(others):
        return math.inf
    parts = [
        float((one - other).abs().max() / other.abs().max().clamp_min(1e-8))
        for one, other in zip(some, others)
    ]
    return max(math.inf if math.isnan(part) else part for part in parts)


def _seconds(network: nn.Module, images: Tensor, labels: Tensor, steps: int) -> float:
    """Return the seconds of a pass, of so many one after another."""
    wait_for(images.device)
    began = time.perf_counter()
    for _ in range(steps):
        _pass(network, images, labels)
    wait_for(images.device)
    return (time.perf_counter() - began) / steps


def _seconds_to_issue(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the seconds in which a pass is issued to an idle device, which is not waited for."""
    taken = []
    for _ in range(7):
        wait_for(images.device)
        began = time.perf_counter()
        _pass(network, images, labels)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[2:])
