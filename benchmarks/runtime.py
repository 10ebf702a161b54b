"""A training step under `runtime=auto` against Lightning's default: float32, NCHW, all threads."""

from __future__ import annotations

import statistics

import torch

from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.runs import build
from src.runs.resolve import resolve
from src.training.stepper import Stepper

__all__ = ["measure"]

_ROUNDS = 7
_STEPS = 5
_BAR = 2.0


def measure() -> list[Row]:
    """The default cnn on Fashion-MNIST in batches of 128; the plans take turns."""
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
    return [
        Row(
            "`runtime=auto` against Lightning's default, a step of the default cnn",
            spread(ratios),
            f"at least {_BAR:.0f}x on two AVX-512 cores",
            statistics.median(ratios) >= _BAR,
        )
    ]
