"""How a network in eval mode computes fastest on this machine: a few forward passes decide.

The candidates are few (number format, memory layout), and each one's outputs are compared with
those of single precision before it may be taken.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product

import torch
from torch import Tensor, nn

from src.machine.hardware import has_bfloat16, machine
from src.storage.cache import Record, load_record, store_record
from src.training.inference import MEMORY_FORMATS, autocast

__all__ = ["InferencePlan", "forward", "inference_plan"]

# Seconds by the clock for all of it, checked between two forward passes.
_ALLOWANCE = 2.0
_LEAST_ROUNDS, _MOST_ROUNDS = 2, 5
# Seconds that one timed pass should take: short enough for the allowance, long enough to tell.
_PASS_SECONDS = 0.05
_LEAST_PICTURES, _MOST_PICTURES = 2, 16
# Of each picture's outputs with those of single precision. It allows a difference of 6 % of their
# length; the outputs of two pictures differ by more than their length (EfficientNet-Lite0, photos:
# cosines of 0.23 to 0.42 between pictures, of 0.9991 to 0.9997 between bfloat16 and float32).
_LEAST_COSINE = 0.998
# What a plan must gain before it replaces a simpler one: less is noise.
_WORTHWHILE = 0.95


@dataclass(frozen=True)
class InferencePlan:
    """How a forward pass computes.

    Attributes:
        precision: see `src.training.inference.autocast`.
        memory_format: a key of `src.training.inference.MEMORY_FORMATS`.
    """

    precision: str
    memory_format: str

    def __str__(self) -> str:
        return f"{self.precision}, {self.memory_format}"


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
    images: Tensor | None = None,
    cache_dir: str | None = None,
) -> InferencePlan:
    """Return the fastest sound way to compute a forward pass; measured once, then kept on disk.

    Takes about two seconds the first time. On a CPU the plans are compared on one thread by the
    processor time that this thread used, so other programs change little of the result. Where the
    allowance ends before every plan was timed, half precision in channels_last order is taken if
    the device has it and the outputs are sound, else single precision; that is not kept.

    Args:
        network: with tensors as inputs (B, C, H, W) and outputs (B, ...); it is not changed.
        shape: (C, H, W) of a picture.
        device: where to compute.
        images: (N, C, H, W) float32, normalised, N at least 1: what to measure with; a few
            pictures of the user's judge rounding best. None for drawn ones.
        cache_dir: see `src.storage.cache.cache_folder`.

    Raises:
        RuntimeError: the network does not run in single precision on such pictures.
    """
    plans = _candidates(network, device)
    if len(plans) == 1:
        return plans[0]
    known = {
        "machine": machine(device),
        "network": _architecture(network),
        "shape": list(shape),
        "plans": [asdict(plan) for plan in plans],
    }
    found = load_record("inference", known, cache_dir)
    if found is not None and found.found in known["plans"]:
        return InferencePlan(**found.found)
    with _one_thread(device):
        plan, complete = _Comparison(
            network, _pictures(shape) if images is None else images, device
        ).choose(plans)
    if complete:
        store_record("inference", known, Record(asdict(plan), disturbed=False), cache_dir)
    return plan


def _candidates(network: nn.Module, device: torch.device) -> list[InferencePlan]:
    """What to compare: the reference first, then what is taken where time is short."""
    convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
    formats = ["channels_last", "contiguous"] if convolves else ["contiguous"]
    precisions = ["float32"]
    if has_bfloat16(device):
        precisions.append("bfloat16")
    elif device.type == "cuda":
        precisions.append("float16")
    return [InferencePlan(p, f) for f in formats for p in precisions]


class _Comparison:
    """Forward passes of a copy of the network under each plan."""

    def __init__(self, network: nn.Module, images: Tensor, device: torch.device) -> None:
        self._deadline = time.perf_counter() + _ALLOWANCE
        self._network = copy.deepcopy(network).to(device).eval()
        self._images = images.to(device)
        self._device = device

    def choose(self, plans: Sequence[InferencePlan]) -> tuple[InferencePlan, bool]:
        """Return the plan to take, and whether all were timed often enough to keep the answer."""
        reference, *others = plans
        self._take_few_pictures(reference)
        outputs, _ = self._passed(reference)
        seconds = {reference: math.inf}
        for plan in others:
            if plan is not others[0] and self._late():
                return _default(seconds), False
            if self._is_sound(plan, outputs):
                seconds[plan] = math.inf
        for turn, plan in product(range(_MOST_ROUNDS), tuple(seconds)):
            if self._late():
                return (
                    (_fastest(seconds), True)
                    if turn >= _LEAST_ROUNDS
                    else (_default(seconds), False)
                )
            seconds[plan] = min(seconds[plan], self._passed(plan)[1])
        return _fastest(seconds), True

    def _late(self) -> bool:
        return time.perf_counter() > self._deadline

    def _take_few_pictures(self, plan: InferencePlan) -> None:
        """Reduce the pictures to as many as one timed pass needs."""
        images = self._images
        self._images = images[:_LEAST_PICTURES]
        self._passed(plan)  # in which kernels are chosen
        seconds = self._passed(plan)[1] / len(self._images)
        count = min(_MOST_PICTURES, int(_PASS_SECONDS / max(seconds, 1e-6)))
        self._images = images[: max(_LEAST_PICTURES, count)]

    def _is_sound(self, plan: InferencePlan, right: Tensor) -> bool:
        try:
            outputs, _ = self._passed(plan)
        except RuntimeError:  # no kernel for this
            return False
        cosine = nn.functional.cosine_similarity(outputs.flatten(1), right.flatten(1))
        return bool((cosine >= _LEAST_COSINE).all())  # NaN compares false

    def _passed(self, plan: InferencePlan) -> tuple[Tensor, float]:
        """Outputs of one pass as float64, and its seconds: the thread's own on a CPU."""
        self._network.to(memory_format=MEMORY_FORMATS[plan.memory_format])
        cuda = self._device.type == "cuda"
        clock = time.perf_counter if cuda else time.thread_time
        began = clock()
        outputs = forward(self._network, self._images, plan)
        if cuda:
            torch.cuda.synchronize(self._device)
        return outputs.double(), clock() - began


def _pictures(shape: tuple[int, int, int]) -> Tensor:
    """Pictures (N, C, H, W) float32 with structure on every scale, as photos have it.

    Independent pixels would not do: their outputs are nearly alike, and so are rounded ones.
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


def _default(sound: Iterable[InferencePlan]) -> InferencePlan:
    """What is usually the fastest: half precision where it is sound, else the first."""
    plans = list(sound)
    return next((plan for plan in plans if plan.precision != "float32"), plans[0])


def _fastest(seconds: Mapping[InferencePlan, float]) -> InferencePlan:
    """The fastest plan; an earlier one unless a later one is clearly faster."""
    best, *others = seconds
    for plan in others:
        if seconds[plan] < _WORTHWHILE * seconds[best]:
            best = plan
    return best


def _architecture(network: nn.Module) -> str:
    """A digest of the modules and the shapes of their weights."""
    digest = hashlib.sha256(repr(network).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    return digest.hexdigest()[:32]


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, compute on one thread, whose processor time can be read without that of others."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
