"""A training step under `runtime=auto` against Lightning's default: float32, NCHW, all threads.

And what single precision of depthwise convolutions saves of a step in half precision on a CPU.
"""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext

import torch
from torch.nn.functional import cross_entropy

from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.models.arithmetic import autocast, depthwise_in_float32
from src.runs import build
from src.runs.build.network import NetworkShape, build_network
from src.runs.resolve import resolve
from src.training.stepper import Stepper

__all__ = ["measure"]

_ROUNDS = 7
_STEPS = 5
_BAR = 2.0
_PICTURES, _SIDE = 16, 128


def measure() -> list[Row]:
    """Both, the plans in turns."""
    return [_cnn(), _depthwise()]


def _cnn() -> Row:
    """The default cnn on Fashion-MNIST in batches of 128."""
    threads = torch.get_num_threads()
    device = torch.device("cpu")
    settings = read_run_settings(["data=fashion_mnist", "trainer.accelerator=cpu"])
    data = build.build_data(settings)
    chosen = resolve(settings, data)
    print(*chosen.notes, sep="\n")
    default = read_run_settings(
        ["data=fashion_mnist", "runtime=float32", "runtime.memory_format=contiguous"]
    )
    batch = next(iter(data.batches("train", training=True)))
    steppers = {
        name: Stepper(
            build.build_task(plan, data),
            precision=plan.runtime.precision,
            device=device,
            gradient_clip=plan.trainer.gradient_clip,
        )
        for name, plan in (("auto", chosen.settings), ("default", default))
    }
    counts = {"auto": int(chosen.settings.runtime.threads or threads), "default": threads}
    ratios = []
    for turn in range(_ROUNDS + 1):
        seconds = {}
        for name, stepper in steppers.items():
            torch.set_num_threads(counts[name])
            seconds[name] = statistics.median(stepper.timed(batch) for _ in range(_STEPS))
        if turn:  # the first round chooses kernels
            ratios.append(seconds["default"] / seconds["auto"])
    torch.set_num_threads(threads)
    return Row(
        "`runtime=auto` against Lightning's default, a step of the default cnn",
        spread(ratios),
        f"at least {_BAR:.0f}x on two AVX-512 cores",
        statistics.median(ratios) >= _BAR,
    )


def _depthwise() -> Row:
    """Forward and back through U-Net over EfficientNet-Lite0, by one thread's processor time."""
    threads, device = torch.get_num_threads(), torch.device("cpu")
    torch.set_num_threads(1)
    model = build.network_of(read_run_settings(["data.target=dense", "model=unet"]))
    network = build_network(model, NetworkShape(3, 2, (_SIDE, _SIDE), "dense"))
    network.to(memory_format=torch.channels_last).train()
    images = torch.randn(_PICTURES, 3, _SIDE, _SIDE).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (_PICTURES, _SIDE, _SIDE))

    def seconds(precision: str, single: bool) -> float:
        began = time.thread_time()
        with (
            autocast(device, precision),
            depthwise_in_float32(device) if single else nullcontext(),
        ):
            logits = network(images)
        cross_entropy(logits.float(), targets).backward()
        return time.thread_time() - began

    plans = {"half": ("bfloat16", False), "single": ("float32", False), "now": ("bfloat16", True)}
    turns = [{name: seconds(*plan) for name, plan in plans.items()} for _ in range(_ROUNDS)][1:]
    torch.set_num_threads(threads)
    to_half, to_single = (
        [turn[name] / turn["now"] for turn in turns] for name in ("half", "single")
    )
    return Row(
        "a step of U-Net in bfloat16 with depthwise convolutions in float32, against all in "
        "bfloat16, and all in float32",
        f"{spread(to_half)}, {spread(to_single)}",
        "faster than both",
        min(statistics.median(to_half), statistics.median(to_single)) > 1,
    )
