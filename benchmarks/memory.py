"""Memory that a step leaves to the next one (`src.machine.memory`) against the C library's rules.

EfficientNet-Lite0 at 224 pixels, 16 pictures at a time on one thread, each way in a process of its
own: what it takes of the processor, the system's work on pages included, and the peak of its
memory.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn

from benchmarks.commands import python
from benchmarks.table import Row, spread
from src.machine.memory import memory_kept, peak_memory
from src.models.folding import fold_batch_norms
from src.models.zoo import TimmNet

__all__ = ["measure"]

_ROUNDS, _BATCH, _SIDE = 3, 16, 224
# What is done, how often, and the least that is gained.
_STEPS = {"training": (6, 1.1), "describing": (12, 1.1)}
_MOST_MEMORY = 1.25


def measure() -> list[Row]:
    """Each way in turn, its own process."""
    return [_row(name) for name in _STEPS]


def _row(name: str) -> Row:
    seconds, peaks = [], []
    for _ in range(_ROUNDS):
        usual, kept = (_process(name, way) for way in ("usual", "kept"))
        seconds.append(usual["seconds"] / kept["seconds"])
        peaks.append(kept["peak"] / usual["peak"])
    _, bar = _STEPS[name]
    return Row(
        f"memory that is kept between steps: {name}; peak of the memory",
        f"{spread(seconds)} faster; {spread(peaks)}",
        f"at least {bar}x; at most {_MOST_MEMORY}x",
        statistics.median(seconds) >= bar and statistics.median(peaks) <= _MOST_MEMORY,
    )


def _process(name: str, way: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(python("-m", "benchmarks.memory", name, way))
    return found


def _step(name: str) -> Callable[[], object]:
    """Return one step of what is measured."""
    drawn = torch.Generator().manual_seed(0)
    images = torch.rand(_BATCH, 3, _SIDE, _SIDE, generator=drawn)
    size = (_SIDE, _SIDE)
    network: nn.Module = TimmNet(
        3,
        4,
        size,
        name="tf_efficientnet_lite0",
        pretrained=False,
        input_size=None,
        stem="keep",
        drop_rate=0.0,
    )
    if name == "training":
        network.to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        batch = images.to(memory_format=torch.channels_last)
        targets = torch.randint(4, (_BATCH,), generator=drawn)

        def train() -> None:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch), targets).backward()
            optimizer.step()

        return train
    folded = fold_batch_norms(network.eval(), images[:1]).to(memory_format=torch.channels_last)

    def answer() -> None:
        with torch.inference_mode():
            folded(images.to(memory_format=torch.channels_last))

    return answer


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _timed(name: str, way: str) -> dict[str, float]:
    torch.set_num_threads(1)
    steps, step = _STEPS[name][0], _step(name)
    with memory_kept() if way == "kept" else nullcontext():
        for _ in range(2):
            step()
        began = _seconds()
        for _ in range(steps):
            step()
        return {"seconds": _seconds() - began, "peak": float(peak_memory())}


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    print(json.dumps(_timed(*sys.argv[1:])))
