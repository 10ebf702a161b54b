"""Trials that share a GPU: how many an hour, memory kept apart, and too little of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks.commands import python
from benchmarks.gpu.pictures import write_drawn
from benchmarks.table import Row
from src.config.overrides import changed
from src.search.jobs import Channel, Death, Ending, Job, NoReports, Ready
from src.search.workers.local import LocalEngine
from src.search.workers.slots import Slot
from src.sweeps.run_job import TrialRunner
from src.sweeps.tasks import Train, plain_task

__all__ = ["Taker", "memory", "slots", "sweep_rate"]

_AN_HOUR = 1000.0
_PATIENCE_SECONDS = 150.0
# Batches that need more memory than the share that `memory` leaves.
_LARGE = ("model=resnet18", "data.batch_size=8192", "runtime=bfloat16")


def sweep_rate(
    device: torch.device,
    folder: Path,
    *,
    trials: int = 48,
    minutes: float = 1.5,
    per_gpu: int = 8,
    overrides: Sequence[str] = ("families=[cnn]",),
) -> Iterator[Row]:
    """Trials an hour of a sweep of small trials, its start and end counted.

    Args:
        device: of the trials, which share it.
        folder: for the study.
        trials: on the digits, 12 epochs each.
        minutes: after which the sweep ends with those that are complete.
        per_gpu: at the same time.
        overrides: further overrides of the sweep.
    """
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    given = ["study=gpu", "data=digits", "pruner=none", "finalists=0", *overrides]
    given += [f"budget.trials={trials}", f"budget.minutes={minutes}", f"workers.per_gpu={per_gpu}"]
    given += ["workers.count=1"] if device.type == "cpu" else []
    began = time.perf_counter()
    python("-m", "src.sweep", *given, f"trainer.accelerator={accelerator}", f"output_dir={folder}")
    seconds = time.perf_counter() - began
    done = len([*folder.rglob("summary.json")])
    rate = 3600 * done / seconds
    yield Row(
        f"a sweep of {done} trials on the digits ({' '.join(overrides)}), {per_gpu} at a time",
        f"{rate:,.0f} trials an hour",
        f"at least {_AN_HOUR:,.0f}",
        rate >= _AN_HOUR if device.type == "cuda" else None,
    )


def memory(
    device: torch.device,
    folder: Path,
    *,
    share: float = 0.03,
    overrides: Sequence[str] = _LARGE,
    pictures: int = 8192,
) -> Iterator[Row]:
    """A trial that asks for more than its share of the memory, and the halvings that end that.

    Args:
        device: of the trial.
        folder: for pictures and runs.
        share: of the GPU's memory.
        overrides: overrides of the trial; its batch size is the first.
        pictures: of the training part.
    """
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.set_per_process_memory_fraction(share, device)
    file = write_drawn(folder / "drawn.npz", {"train": pictures, "val": 100}, side=32)
    places = [f"output_dir={folder / 'outputs'}", "tracking.enabled=false", "evaluate_test=false"]
    places += ["tracking.log_model=false", "tracking.figures=false", "trainer.progress=false"]
    given = ["data=folder", f"data.root={file}", "trainer.max_epochs=1", *overrides]
    given += [f"trainer.accelerator={'gpu' if on_cuda else 'cpu'}"]
    task = Train(places, "large", 0, "large", {}, "0" * 32, "val/accuracy", "maximize")
    run, halvings = TrialRunner(), 0
    ending = run(Job(plain_task(task), overrides=given), NoReports())
    while ending.again is not None:
        halvings += 1
        given = changed(given, ending.again["changes"])
        ending = run(Job(plain_task(task), overrides=given), NoReports())
    size = next(override for override in reversed(given) if override.startswith("data.batch_size="))
    left = torch.cuda.memory_allocated(device) / 1e6 if on_cuda else 0.0
    outcome = f"{ending.state} after {halvings} halvings, {size}, {left:.0f} MB in use afterwards"
    yield Row(
        f"a trial with {100 * share:g} % of the GPU's memory that asks for more",
        outcome + (f" ({ending.reason})" if ending.reason else ""),
        "complete after halvings, at most 200 MB in use",
        ending.state == "complete" and halvings > 0 and left <= 200 if on_cuda else None,
    )


class Taker(TrialRunner):
    """Takes a share of the GPU's memory and keeps it; the result has what the worker sees."""

    def __call__(self, job: Job, channel: Channel) -> Ending:
        seen = {"devices": os.environ.get("CUDA_VISIBLE_DEVICES"), "count": 0}
        if not torch.cuda.is_available():
            return Ending("complete", result=seen)
        seen["count"] = torch.cuda.device_count()
        size = int(job.task["share"] * torch.cuda.get_device_properties(0).total_memory)
        try:
            self._kept = torch.empty(size, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError as error:
            return Ending("failed", result=seen, reason=str(error).splitlines()[0])
        return Ending("complete", result=seen)


def slots(device: torch.device, folder: Path) -> Iterator[Row]:
    """Two workers of one GPU: each sees it alone, and cannot take the other's half of its memory.

    Args:
        device: that they share.
        folder: for their output.
    """
    on_cuda = device.type == "cuda"
    place = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] if on_cuda else ""
    engine = LocalEngine(
        [Slot(place, 1, gpu_share=0.5)] * 2, "benchmarks.gpu.trials:Taker", folder / "logs"
    )
    engine.start(0)
    engine.start(1)
    _answers(engine, Ready, 2)
    # The first takes too much, and is refused; then both take most of their halves.
    engine.send(0, Job({"share": 0.6}))
    refused = _answers(engine, Ending, 1)
    for slot in (0, 1):
        engine.send(slot, Job({"share": 0.4}))
    taken = _answers(engine, Ending, 2)
    engine.close()
    states = [ending.state for ending in (*refused, *taken)]
    seen = {str(ending.result) for ending in (*refused, *taken)}
    yield Row(
        "two workers on one GPU: 60 % of its memory for one, then 40 % for each",
        f"{', '.join(states)}; seen: {', '.join(sorted(seen))}",
        "failed, complete, complete; one device each",
        states == ["failed", "complete", "complete"] and len(seen) == 1 if on_cuda else None,
    )


def _answers(engine: LocalEngine, kind: type[Ready] | type[Ending], count: int) -> list[Ending]:
    """Return so many messages of a kind; what a worker that died leaves raises RuntimeError."""
    found: list[Ending] = []
    deadline, seen = time.monotonic() + _PATIENCE_SECONDS, 0
    while seen < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {seen} of {count} workers answered in time")
        for slot, message in engine.messages(1.0):
            if isinstance(message, Death):
                raise RuntimeError(f"worker {slot} {message.how}")
            if isinstance(message, kind):
                seen += 1
                if isinstance(message, Ending):
                    found.append(message)
    return found
