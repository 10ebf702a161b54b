"""A training on the device: does it wait, is the device busy, which plan, and a bare loop."""

from __future__ import annotations

import json
import re
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytorch_lightning as pl
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.pictures import write_drawn
from benchmarks.overhead import bare_epochs
from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.runs import build
from src.runs.experiment import run_experiment
from src.runs.resolve import resolve
from src.training.cost import wait_for

__all__ = [
    "DeviceWork",
    "Watch",
    "device_work",
    "images_per_second",
    "opened",
    "plans",
    "profiled",
    "steady_epoch",
    "steps",
    "watched",
    "with_epochs",
]

_LARGE = ("model=resnet18", "data.batch_size=1024")
_COUNTS = {"train": 50_000, "val": 2_000}
_BUSY, _STEPS_BAR = 0.95, 1.05
# Of a Chrome trace, what a GPU does.
ON_GPU = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
# As torch warns of an operation that waits. When the warnings are turned on, another one says that
# this does not find "all synchronizing operations".
_WAITED = "called a synchronizing"
_SHOWN = 5  # kinds of kernels


def steady_epoch(
    device: torch.device,
    folder: Path,
    *,
    overrides: Sequence[str] = _LARGE,
    counts: Mapping[str, int] = _COUNTS,
    kinds: frozenset[str] = ON_GPU,
) -> Iterator[Row]:
    """Waits within one epoch of a run, and the share of an epoch in which the device computes.

    The profiler makes launches slow, so what the device does is counted in an epoch of its own, and
    divided by the time of another.

    Args:
        device: of the training.
        folder: for the pictures and the run.
        overrides: further overrides of the run.
        counts: pictures of each part.
        kinds: of the events of a trace that count as the device's work.
    """
    settings, data = opened(device, folder, counts, overrides)
    watch = Watch(folder / "trace.json", waits_in=1, timed_in=3, traced_in=4)
    with watched(watch):
        run_experiment(with_epochs(settings, 5), data=data)
    what = f"{settings.model.name}, batches of {data.batch_size}, pictures on the device"
    places, seen = sorted(set(watch.waits)), waits_are_seen(device)
    yield Row(
        f"waits for the device within an epoch ({what})",
        f"{len(watch.waits)}" + "".join(f"; {place}" for place in places[:3])
        if seen is not False
        else "unknown: a wait on purpose was not noticed",
        "none",
        None if seen is None else seen and not watch.waits,
    )
    work = device_work(json.loads((folder / "trace.json").read_text()), kinds)
    share = work.seconds / watch.seconds
    most = ", ".join(f"{100 * part:.0f} % {name}" for name, part in work.longest)
    yield Row(
        f"device busy, of a steady epoch ({what})",
        f"{100 * share:.1f} %; a step: {work.count / watch.steps:.0f} kernels, "
        f"{1e3 * work.seconds / watch.steps:.2f} ms of {1e3 * watch.seconds / watch.steps:.2f} ms; "
        f"most: {most}",
        f"at least {100 * _BUSY:.0f} %",
        share >= _BUSY,
    )


class Watch(pl.Callback):
    """Records what waits for the device in one epoch, how long another takes, and what the device
    does in a third.

    Each from the second step to the last. Of torch's warnings about waiting, which exist for CUDA
    alone, the places in the code are kept.

    Args:
        trace: file of the trace, in Chrome's format.
        waits_in, timed_in, traced_in: the epochs, from 0.

    Attributes:
        waits: places in the code.
        seconds, steps: of the epoch that is timed.
    """

    def __init__(self, trace: Path, *, waits_in: int, timed_in: int, traced_in: int) -> None:
        self.waits: list[str] = []
        self.seconds, self.steps = 0.0, 0
        self._trace = trace
        self._waits_in, self._timed_in, self._traced_in = waits_in, timed_in, traced_in
        self._open = ExitStack()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx != 1:
            return
        device = pl_module.device
        if trainer.current_epoch == self._waits_in:
            self._open.enter_context(_waits_noted(device, self.waits))
        elif trainer.current_epoch == self._timed_in:
            self._open.enter_context(self._timed(device))
        elif trainer.current_epoch == self._traced_in:
            wait_for(device)
            self._open.enter_context(profiled(device, self._trace))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if batch_idx == trainer.num_training_batches - 1:
            self.steps = batch_idx  # without the first
            self._open.close()

    @contextmanager
    def _timed(self, device: torch.device) -> Iterator[None]:
        wait_for(device)
        began = time.perf_counter()
        yield
        wait_for(device)
        self.seconds = time.perf_counter() - began


@contextmanager
def _waits_noted(device: torch.device, places: list[str]) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places += waiting_places(caught)


def waiting_places(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """Return file and line of each warning that something waited for the device."""
    waiting = [one for one in caught if _WAITED in str(one.message)]
    return [f"{Path(one.filename).name}:{one.lineno}" for one in waiting]


def waits_are_seen(device: torch.device) -> bool | None:
    """Return whether a wait on purpose is noticed; None where none can be."""
    if device.type != "cuda":
        return None
    places: list[str] = []
    with _waits_noted(device, places):
        torch.ones(1, device=device).item()
    return bool(places)


@contextmanager
def profiled(device: torch.device, file: Path) -> Iterator[None]:
    """Write what the device does in the block as a trace in Chrome's format."""
    on_cuda = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_cuda else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        yield
        wait_for(device)
    profiler.export_chrome_trace(str(file))


@dataclass(frozen=True)
class DeviceWork:
    """What a device did.

    Attributes:
        count: kernels and copies.
        seconds: in which one of them went on; what overlaps counts once.
        longest: the kinds that took most, and their shares of the time of all.
    """

    count: int
    seconds: float
    longest: list[tuple[str, float]]


def device_work(trace: Mapping[str, Any], kinds: frozenset[str] = ON_GPU) -> DeviceWork:
    """Return what the events of these kinds in a trace come to.

    Raises:
        ValueError: the trace has no such event.
    """
    events = [e for e in trace["traceEvents"] if e.get("ph") == "X" and e.get("cat") in kinds]
    spans = sorted((float(e["ts"]), float(e["ts"]) + float(e["dur"])) for e in events)
    if not spans:
        raise ValueError(f"the trace has no event of {', '.join(sorted(kinds))}")
    busy, reached = 0.0, spans[0][0]
    for begin, end in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        spent[_kind(event["name"])] += float(event["dur"])
    whole = sum(spent.values()) or 1.0
    most = sorted(spent.items(), key=lambda item: -item[1])[:_SHOWN]
    longest = [(name, part / whole) for name, part in most]
    return DeviceWork(len(events), busy / 1e6, longest)


def _kind(kernel: str) -> str:
    """Return a kernel's name without its namespaces and without the shapes of its tiles."""
    plain = kernel.removeprefix("void ").replace("(anonymous namespace)::", "")
    outer, _, inner = plain.replace("at::native::", "").partition("<")
    # Torch's own loops are told apart by what they do with an element.
    if outer.endswith(("elementwise_kernel", "multi_tensor_apply_kernel")):
        names = re.findall(r"\w*[Ff]unctor\w*", inner)[-1:] or re.findall(r"[a-zA-Z]\w+", inner)[:1]
        return " ".join([outer, *names])
    return outer.partition("(")[0].partition("_tilesize")[0][:48]


def plans(
    device: torch.device,
    folder: Path,
    *,
    overrides: Sequence[str] = _LARGE,
    counts: Mapping[str, int] = _COUNTS,
    epochs: int = 2000,
) -> Iterator[Row]:
    """The plan that a long training gets, against the simplest, and whether compiling pays."""
    settings, data = opened(device, folder, counts, overrides)
    found = resolve(with_epochs(settings, epochs), data)
    print(*found.notes, sep="\n")
    finite = [timing for timing in found.timings if timing.reason is None]
    runtime = found.settings.runtime
    chosen = f"{runtime.precision}, {runtime.memory_format}" + ", compiled" * bool(runtime.compile)
    simplest = next((t for t in finite if str(t.plan) == "float32, contiguous"), None)
    fastest = max(finite, key=lambda timing: timing.images_per_second, default=None)
    if simplest is None or fastest is None:
        yield Row("the plan that is chosen", f"{chosen}, not measured", "a measured one", False)
        return
    gain = fastest.images_per_second / simplest.images_per_second
    yield Row(
        f"the plan that is chosen ({settings.model.name}, batches of {data.batch_size})",
        f"{chosen}: {fastest.images_per_second:,.0f} images/s, {gain:.2f}x of float32, contiguous",
        "at least 2x",
        gain >= 2,
    )
    compiled = [timing for timing in found.timings if timing.plan.compile]
    if not compiled:
        yield Row("compiling, its cost counted", "skipped: not tried", "", None)
    for timing in compiled:
        verdict = timing.reason or f"taken: {timing.images_per_second:,.0f} images/s"
        yield Row("compiling, its cost counted", verdict, "decided by measurement", True)


def steps(
    device: torch.device,
    folder: Path,
    *,
    overrides: Sequence[str] = _LARGE,
    counts: Mapping[str, int] = _COUNTS,
    rounds: int = 3,
    epochs: int = 3,
) -> Iterator[Row]:
    """Training steps of the whole stack against a bare loop over the same network and batches."""
    settings, data = opened(device, folder, counts, overrides)
    settings = resolve(with_epochs(settings, epochs), data).settings
    steps_an_epoch = len(data.batches("train", training=True))  # type: ignore[arg-type]
    pictures = steps_an_epoch * data.batch_size
    ratios = []
    for _ in range(rounds):
        rates = images_per_second(settings, data)
        bare = bare_epochs(settings, data, device, epochs)
        seconds = statistics.median(trained for trained, _ in bare[1:])
        ratios.append(pictures / statistics.median(rates[1:]) / seconds)
        print(f"bare {pictures / seconds:,.0f} images/s, {ratios[-1]:.3f}x as long", flush=True)
    yield Row(
        f"a training step of the whole stack against a bare loop ({settings.model.name}, batches "
        f"of {data.batch_size})",
        spread(ratios, digits=3),
        f"at most {_STEPS_BAR}x",
        statistics.median(ratios) <= _STEPS_BAR,
    )


def images_per_second(settings: RunSettings, data: PictureData) -> list[float]:
    """Return the pictures a second of each epoch's training steps."""
    rates: list[float] = []

    def note(epoch: int, metrics: dict[str, float]) -> None:
        rates.append(metrics["train/images_per_second"])

    run_experiment(settings, note, data=data)
    return rates


def opened(
    device: torch.device, folder: Path, counts: Mapping[str, int], overrides: Sequence[str]
) -> tuple[RunSettings, PictureData]:
    """Settings of a run without figures and pages on drawn pictures of 32 pixels, and these."""
    file = write_drawn(folder / "drawn.npz", {**counts}, side=32)
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    given = [
        f"data.root={file}",
        f"output_dir={folder / 'outputs'}",
        f"trainer.accelerator={accelerator}",
    ]
    given += ["data=folder", "data.mirror_ok=true", "evaluate_test=false", "tracking=none"]
    given += ["tracking.figures=false", "tracking.log_model=false", *overrides]
    settings = read_run_settings(given)
    data = build.build_data(settings)
    data.live_on(device)
    return settings, data


def with_epochs(settings: RunSettings, epochs: int) -> RunSettings:
    """Return the settings of a training of so many epochs."""
    return replace(settings, trainer=replace(settings.trainer, max_epochs=epochs))


@contextmanager
def watched(watch: pl.Callback) -> Iterator[None]:
    """Give every trainer that is built meanwhile one more callback."""
    original = build.build_trainer

    def watched(*arguments: Any) -> pl.Trainer:
        trainer = original(*arguments)
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        return trainer

    with mock.patch.object(build, "build_trainer", watched):
        yield
