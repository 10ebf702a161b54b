"""The cost of a network: parameters, arithmetic, latency, throughput, memory and size.

Measuring changes neither the network nor its mode nor the state of random generators.
`torch.utils.benchmark` is not used: it has no limit of the time for a network whose pass takes
seconds.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..machine.cpu_load import CpuLoad
from ..machine.memory import peak_memory
from ..machine.parallel import available_cores

__all__ = [
    "Timing",
    "count_flops",
    "latency_ms",
    "measure_cost",
    "median_seconds",
    "num_parameters",
    "peak_memory_bytes",
    "throughput",
    "timed",
    "timing_figures",
    "wait_for",
]

_BUDGET_SECONDS = 0.5
_MOST_REPEATS = 200
# Seconds and rounds of a measurement. Other programs take the processor for milliseconds at a time,
# so that some of many short rounds are undisturbed.
_ROUNDS = 20
# Number of measurements until one is made on an idle machine.
_ATTEMPTS = 3
_WARM_UPS = 3
# Cores that an idle system uses.
_TOLERATED = 0.25
_BYTES_PER_MB = 1e6


def measure_cost(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    batch_size: int = 128,
    checkpoint: Path | None = None,
    answering: nn.Module | None = None,
    picture_shape: tuple[int, int, int] | None = None,
) -> dict[str, float]:
    """Measure every figure of cost, by its plain name; takes some 1.5 s for a small network,
    and up to 2.5 s beside other programs.

    - "parameters": number of values, see `num_parameters`
    - "flops": floating-point operations of one forward pass of one picture, see `count_flops`
    - "latency_ms": milliseconds for one picture alone, see `latency_ms`
    - "latency_others": cores that other programs used meanwhile; left out where they took none from
      the network
    - "throughput": pictures per second in batches, see `throughput`
    - "peak_memory_mb": peak of memory so far, see `peak_memory_bytes`
    - "checkpoint_mb": size of `checkpoint` on disk; left out without one

    One MB is a million bytes. Times are those of the network as it is, on the device where it is,
    with torch's number of threads; wrap the call in `torch.autocast` to time half precision.

    Args:
        network: takes images (B, C, H, W) in the type of its parameters.
        image_shape: (C, H, W).
        batch_size: pictures in a batch for "throughput".
        checkpoint: file to measure the size of.
        answering: what is timed in the place of the network, where that runs several times for the
            answer to a picture.
        picture_shape: (C, H, W) of what is timed, where the network takes pieces of pictures.

    Raises:
        ValueError: `image_shape` or `batch_size` holds a number below 1.
    """
    # Before the measurements, whose batches need memory too.
    peak_bytes = peak_memory_bytes(_device(network))
    flops, shape = count_flops(network, image_shape), picture_shape or image_shape
    answering = network if answering is None else answering
    timing = _time(answering, _batch_shape(1, shape), attempts=_ATTEMPTS)
    fast = 1 / timing.seconds if batch_size == 1 else throughput(answering, shape, batch_size)
    cost: dict[str, float] = {
        "parameters": num_parameters(network),
        "flops": flops,
        **timing_figures(timing),
        "throughput": fast,
        "peak_memory_mb": peak_bytes / _BYTES_PER_MB,
    }
    if checkpoint is not None:
        cost["checkpoint_mb"] = checkpoint.stat().st_size / _BYTES_PER_MB
    return cost


def num_parameters(network: nn.Module) -> int:
    """Return the number of values in the network's parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_flops(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Count floating-point operations of one forward pass of one picture (C, H, W).

    Matrix products, convolutions and attention count, a multiplication and an addition as two;
    elementwise operations (activations, norms, the gates of an LSTM) do not.

    The pass runs on torch's meta device, where tensors have shapes and no content. Nothing is
    computed, and every fused kernel that the counter does not know (on the CPU that of the LSTM
    and the fast path of the transformer layers, on CUDA those of all recurrent layers) is
    decomposed into matrix products.

    Raises:
        ValueError: `image_shape` holds a number below 1.
    """
    from torch.utils.flop_counter import FlopCounterMode  # which imports Triton

    images = torch.empty(_batch_shape(1, image_shape), device="meta", dtype=_dtype(network))
    meta = _meta_copy(network)
    counter = FlopCounterMode(display=False)
    with _random_state_kept(images.device), torch.inference_mode(), counter:
        meta(images)
    return int(counter.get_total_flops())


def latency_ms(network: nn.Module, image_shape: tuple[int, int, int]) -> float:
    """Measure milliseconds from one picture (C, H, W) on the device to its logits there.

    Of forward passes at batch 1 in evaluation mode, see `timed`; half a second, and up to three
    times as long while other programs take cores from it.

    Raises:
        ValueError: `image_shape` holds a number below 1.
    """
    return 1e3 * _time(network, _batch_shape(1, image_shape), attempts=_ATTEMPTS).seconds


def throughput(network: nn.Module, image_shape: tuple[int, int, int], batch_size: int) -> float:
    """Measure pictures (C, H, W) per second in batches, as `latency_ms` does, for half a second.

    The batch is halved until, by the latency, it should take less than a second.

    Raises:
        ValueError: `batch_size` or `image_shape` holds a number below 1.
    """
    shape = _batch_shape(batch_size, image_shape)
    seconds_each = _time(network, _batch_shape(1, image_shape), budget=0.0).seconds
    while batch_size > 1 and batch_size * seconds_each > 2 * _BUDGET_SECONDS:
        batch_size //= 2
    return batch_size / _time(network, (batch_size, *shape[1:])).seconds


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of memory of this process so far.

    On CUDA: torch's peak of allocated memory since `torch.cuda.reset_peak_memory_stats`.
    Elsewhere: see `peak_memory`.
    """
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()


def _time(
    network: nn.Module,
    shape: tuple[int, int, int, int],
    budget: float | None = None,
    attempts: int = 1,
) -> Timing:
    """Time forward passes of images of this shape, in evaluation mode."""
    device = _device(network)
    # A generator of its own, so that the state of torch's global one is kept.
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(shape, generator=generator).to(device, _dtype(network))
    evaluated = _copy(network)

    def once() -> float:
        wait_for(device)
        start = time.perf_counter()
        evaluated(images)
        wait_for(device)
        return time.perf_counter() - start

    with _random_state_kept(device), torch.inference_mode():
        return timed(once, budget, attempts)


@dataclass(frozen=True)
class Timing:
    """A measured time.

    Attributes:
        seconds: of one call.
        others: cores that other programs used meanwhile; 0 where they left enough to this one.
    """

    seconds: float
    others: float = 0.0


def timed(
    once: Callable[[], float], budget: float | None = None, attempts: int = _ATTEMPTS
) -> Timing:
    """Measure the seconds that repeated calls of `once` return.

    The least of the medians of many short rounds, after a warm-up: what other programs do can make
    a round longer, and never shorter. While they take cores from this one the measurement is
    repeated, and the least time of all counts.

    Args:
        once: returns the seconds that it took.
        budget: seconds of one measurement, which ends after 200 calls at the latest and has at
            least one; half a second unless given.
        attempts: measurements at most.
    """
    budget = _BUDGET_SECONDS if budget is None else budget
    _repeat(once, budget / 2, _WARM_UPS)
    medians: list[float] = []
    others = 0.0
    for _ in range(attempts):
        with CpuLoad() as load:
            medians.append(_least_median(once, budget))
        others = load.others
        if others + torch.get_num_threads() <= available_cores() + _TOLERATED:
            return Timing(min(medians))
    return Timing(min(medians), others)


def median_seconds(once: Callable[[], float], budget: float | None) -> float:
    """Return the seconds of `timed`, measured once."""
    return timed(once, budget, attempts=1).seconds


def timing_figures(timing: Timing) -> dict[str, float]:
    """Return the figures of the latency, by their plain names; see `measure_cost`."""
    marked = {"latency_others": timing.others} if timing.others else {}
    return {"latency_ms": 1e3 * timing.seconds} | marked


def _least_median(once: Callable[[], float], budget: float) -> float:
    """Return the least median of rounds: at least one, within budget and count."""
    calls = _MOST_REPEATS // _ROUNDS
    medians: list[float] = []
    spent = 0.0
    while not medians or (len(medians) < _ROUNDS and spent < budget):
        seconds = _repeat(once, budget / _ROUNDS, calls)
        medians.append(statistics.median(seconds))
        spent += sum(seconds)
    return min(medians)


def _repeat(once: Callable[[], float], budget: float, most: int) -> list[float]:
    """Return the seconds of each call of `once`: at least one, within budget and count."""
    seconds = [once()]
    while len(seconds) < most and sum(seconds) < budget:
        seconds.append(once())
    return seconds


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _copy(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode that shares the parameters and has buffers of its own."""
    # deepcopy takes what is in the memo for copied, so no weight is duplicated.
    memo: dict[int, object] = {id(parameter): parameter for parameter in network.parameters()}
    return copy.deepcopy(network, memo).eval()


def _meta_copy(network: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode on the meta device: shapes without content."""
    memo: dict[int, object] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(network, memo).eval()


def _batch_shape(batch_size: int, image_shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
    channels, height, width = image_shape
    if min(batch_size, channels, height, width) < 1:
        raise ValueError(
            f"batch size {batch_size} and picture shape {tuple(image_shape)} must be at least 1."
        )
    return batch_size, channels, height, width


def _device(network: nn.Module) -> torch.device:
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _dtype(network: nn.Module) -> torch.dtype:
    floating = (p.dtype for p in network.parameters() if p.is_floating_point())
    return next(floating, torch.float32)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU, of CUDA or Apple's, has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
