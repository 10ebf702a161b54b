"""The choice of the fastest arithmetic for a network in eval mode, by timing forward passes.

The plans are few (number format, memory layout), and the outputs of each are compared with those of
single precision before it may be chosen.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..machine.cpu_load import is_idle
from ..machine.hardware import machine, precisions
from ..models.arithmetic import MEMORY_FORMATS, autocast, own_threads
from ..storage.cache import CachedMeasurement, load_measurement, store_measurement
from .cost import wait_for
from .inference import memory_formats

__all__ = ["PICTURES_ON_GPU", "InferencePlan", "fastest", "forward", "inference_plan", "usual"]

T = TypeVar("T")

# Wall-clock seconds for the whole comparison, checked between two forward passes.
_ALLOWANCE = 2.0
_LEAST_ROUNDS, _MOST_ROUNDS = 2, 5
# Seconds that one timed pass should take: short enough for the allowance, long enough to measure.
_PASS_SECONDS = 0.05
_LEAST_PICTURES, _MOST_PICTURES = 2, 16
# Number of pictures on a GPU, as in `src.features.feature_table`. Sixteen keep no large GPU busy:
# it waits for launches then, and every plan takes the same time.
PICTURES_ON_GPU = 128
# Smallest cosine of each picture's outputs with those of single precision. It allows a difference
# of 6 % of their length; the outputs of two pictures differ by more than their length
# (EfficientNet-Lite0, photos: cosines of 0.23 to 0.42 between pictures, of 0.9991 to 0.9997 between
# bfloat16 and float32).
_LEAST_COSINE = 0.998
# Ratio of the times below which a plan replaces a simpler one: less is noise.
_WORTHWHILE = 0.95


@dataclass(frozen=True)
class InferencePlan:
    """The arithmetic of a forward pass, by the names of the runtime settings."""

    precision: str
    memory_format: str

    def __str__(self) -> str:
        return f"{self.precision}, {self.memory_format}"


Plan = TypeVar("Plan", bound=InferencePlan)


def forward(network: nn.Module, images: Tensor, plan: InferencePlan) -> Tensor:
    """Return the network's outputs as float32, computed as the plan says.

    Args:
        network: in eval mode; `network.to(memory_format=MEMORY_FORMATS[plan.memory_format])`
            beforehand saves a conversion of the weights in every pass.
        images: (B, C, H, W) float32, normalised, on the network's device.
        plan: of `inference_plan`.
    """
    images = images.contiguous(memory_format=MEMORY_FORMATS[plan.memory_format])
    with torch.inference_mode(), autocast(images.device, plan.precision):
        return network(images).float()


def inference_plan(
    network: nn.Module,
    shape: tuple[int, int, int],
    device: torch.device,
    *,
    cache_dir: str | None = None,
) -> InferencePlan:
    """Return the fastest accurate plan of a forward pass; measured once, then kept on disk.

    Takes about two seconds the first time. On a CPU the plans are compared on one thread by the
    processor time of this thread, so other programs hardly change the result; on a GPU by the
    clock, with as many pictures as it gets at once later. Where the allowance ends before every
    plan was timed, half precision in channels_last order is taken if the device has it and the
    outputs are accurate, else single precision. That is kept until a start on an idle machine
    measures again, for features are stored by the precision.

    Args:
        network: with tensors as inputs (B, C, H, W) and outputs (B, ...); it is not changed.
        shape: (C, H, W) of a picture.
        device: where to compute.
        cache_dir: see `src.storage.cache.cache_folder`.

    Raises:
        RuntimeError: the network does not run in single precision on such pictures.
    """
    # The first is the reference, the second the one to take where time is short.
    plans = [InferencePlan(p, f) for f in memory_formats(network) for p in precisions(device)]
    if len(plans) == 1:
        return plans[0]
    known: dict[str, Any] = {
        "machine": machine(device),
        "network": _architecture(network),
        "shape": list(shape),
        "plans": [asdict(plan) for plan in plans],
    }
    if (count := _at_once(device)) != _MOST_PICTURES:
        known["pictures"] = count
    found = load_measurement("inference", known, cache_dir)
    if found is not None and not (found.disturbed and is_idle()):
        return InferencePlan(**found.found)
    # Whose processor time can be read alone.
    with own_threads(1 if device.type == "cpu" else None):
        plan, complete = _TimedPasses(network, _pictures(shape), device).choose(plans)
    store_measurement(
        "inference", known, CachedMeasurement(asdict(plan), disturbed=not complete), cache_dir
    )
    return plan


class _TimedPasses:
    """Forward passes of a copy of the network under each plan."""

    def __init__(self, network: nn.Module, images: Tensor, device: torch.device) -> None:
        self._deadline = time.perf_counter() + _ALLOWANCE
        self._network = copy.deepcopy(network).to(device).eval()
        self._images = images.to(device).repeat(_at_once(device) // len(images), 1, 1, 1)
        self._device = device

    def choose(self, plans: Sequence[InferencePlan]) -> tuple[InferencePlan, bool]:
        """Return the plan to take, and whether all were timed often enough to keep the result."""
        reference, *others = plans
        self._take_few_pictures(reference)
        outputs, _ = self._passed(reference)
        seconds = {reference: math.inf}
        for plan in others:
            if plan is not others[0] and self._late():
                return usual(seconds), False
            if self._is_sound(plan, outputs):
                seconds[plan] = math.inf
        for turn, plan in product(range(_MOST_ROUNDS), tuple(seconds)):
            if self._late():
                if turn < _LEAST_ROUNDS:
                    return usual(seconds), False
                break
            seconds[plan] = min(seconds[plan], self._passed(plan)[1])
        return fastest(seconds), True

    def _late(self) -> bool:
        return time.perf_counter() > self._deadline

    def _take_few_pictures(self, plan: InferencePlan) -> None:
        """Reduce the pictures to as many as one timed pass needs."""
        most = self._images
        if len(most) > _MOST_PICTURES:  # a few would not show what many cost
            most = self._fitting(plan)
        else:
            self._images = most[:_LEAST_PICTURES]
        self._passed(plan)  # in which kernels are chosen
        seconds = self._passed(plan)[1] / len(self._images)
        count = min(len(most), int(_PASS_SECONDS / max(seconds, 1e-6)))
        self._images = most[: max(_LEAST_PICTURES, count)]

    def _fitting(self, plan: InferencePlan) -> Tensor:
        """Reduce the pictures to as many as the memory takes at once, and return them."""
        try:
            self._passed(plan)
        except torch.OutOfMemoryError:
            if len(self._images) <= _LEAST_PICTURES:
                raise
            self._images = self._images[: len(self._images) // 2]
            return self._fitting(plan)
        return self._images

    def _is_sound(self, plan: InferencePlan, right: Tensor) -> bool:
        try:
            outputs, _ = self._passed(plan)
        except RuntimeError:  # no kernel for this
            return False
        cosine = nn.functional.cosine_similarity(outputs.flatten(1), right.flatten(1))
        return bool((cosine >= _LEAST_COSINE).all())  # NaN compares false

    def _passed(self, plan: InferencePlan) -> tuple[Tensor, float]:
        """Return outputs of one pass as float64, and its seconds: processor time on a CPU."""
        self._network.to(memory_format=MEMORY_FORMATS[plan.memory_format])
        on_cpu = self._device.type == "cpu"
        clock = time.thread_time if on_cpu else time.perf_counter
        began = clock()
        outputs = forward(self._network, self._images, plan)
        wait_for(self._device)
        seconds = clock() - began
        return outputs.cpu().double(), seconds


def _at_once(device: torch.device) -> int:
    """Return how many pictures one pass gets at most."""
    return _MOST_PICTURES if device.type == "cpu" else PICTURES_ON_GPU


def _pictures(shape: tuple[int, int, int]) -> Tensor:
    """Return random pictures (N, C, H, W) float32 with structure on every scale, as photos have.

    The outputs of independent pixels are nearly alike, so rounding would not show in them.
    """
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros((_MOST_PICTURES, channels, height, width))
    side = 1
    while side <= max(height, width):
        grid = torch.randn((_MOST_PICTURES, channels, side, side), generator=generator)
        images += nn.functional.interpolate(grid, size=(height, width), mode="bilinear")
        side *= 2
    return (images - images.mean()) / images.std()


def usual(plans: Iterable[Plan]) -> Plan:
    """Return the plan that is usually the fastest: half precision, channels last."""
    return min(plans, key=lambda p: (p.precision == "float32", p.memory_format != "channels_last"))


def fastest(seconds: Mapping[T, float]) -> T:
    """Return the fastest plan; an earlier, simpler one unless a later one is clearly faster."""
    best, *others = seconds
    for plan in others:
        if seconds[plan] < _WORTHWHILE * seconds[best]:
            best = plan
    return best


def _architecture(network: nn.Module) -> str:
    """Return a digest of the modules and the shapes of their weights."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    return digest.hexdigest()[:32]
