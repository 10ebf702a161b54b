"""The replacement of every `auto` in the settings by a value, before the run's folder exists.

Measurements are cached by machine, network and shape, and the run's own settings hold the values,
so that the same command and a resumed run compute the same numbers. Those taken while other
programs used the cores are repeated on an idle machine. The number of threads depends on the load
at the start and then stays: with another number sums are rounded differently.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config.checks import ConfigError, input_of, to_plain
from ..config.metrics import primary_of
from ..config.schema import RunSettings
from ..data.loading.loaders import Batch
from ..data.loading.picture_data import PictureData
from ..machine.cpu_load import CpuLoad, is_idle, others_load, slowdown, threads_beside
from ..machine.hardware import device_of, machine
from ..models.arithmetic import own_threads
from ..storage.cache import CachedMeasurement, load_measurement, store_measurement
from ..storage.files import write_atomically
from ..training.stepper import RangeTest, Stepper, range_test, step_seconds
from ..training.training_plan import (
    ChosenPlan,
    PlanTiming,
    TrainingPlan,
    sensible_plans,
    threads_text,
    time_plans,
)
from . import build

if TYPE_CHECKING:  # Lightning takes seconds to import
    from ..training.task import ClassificationTask

__all__ = [
    "Resolved",
    "found_settings",
    "resolve",
    "seconds_per_epoch",
    "threads_of",
    "use_threads",
]

# The keys of the settings that were measured.
_MEASURED_KEYS_FILE = "found.json"

_AUTO = "auto"
# The settings of the runtime that timing decides.
_PLANNED = tuple(TrainingPlan.__dataclass_fields__)
_EARLIER = ", as measured at an earlier start"
_LEAST_BATCH, _MOST_BATCH = 16, 1024
# Fewest steps of an epoch: fewer are too few updates for the pictures seen.
_LEAST_STEPS = 16
# The smallest batch that is nearly as fast as any: larger ones learn less from the same pictures.
_FAST_ENOUGH = 0.9
# Pictures seen in a training, repeated ones included; bounds of the epochs that follow from it.
_PICTURES_SEEN, _LEAST_EPOCHS, _MOST_EPOCHS = 650_000, 10, 30


@dataclass(frozen=True)
class Resolved:
    """A run's settings without any `auto`, and how their values were chosen.

    Attributes:
        notes: a line for each choice.
        timings: of the plans that were compared; empty where the runtime was given.
        rates: of the range test, where there was one.
        found: keys of the settings whose values were measured, but for the runtime.
    """

    settings: RunSettings
    notes: tuple[str, ...] = ()
    timings: tuple[PlanTiming, ...] = ()
    rates: RangeTest | None = None
    found: tuple[str, ...] = ()

    def write(self, folder: Path) -> list[Path]:
        """Write what was measured to choose the settings that were left open; return the files."""
        written = []
        if self.found:
            written.append(folder / _MEASURED_KEYS_FILE)
            write_atomically(written[-1], json.dumps(self.found) + "\n")
        if self.timings:
            written.append(folder / "runtime.json")
            timings = [timing.plain() for timing in self.timings]
            record = {"chosen": to_plain(self.settings.runtime), "timings": timings}
            write_atomically(written[-1], json.dumps(record, indent=1) + "\n")
        if self.rates is not None:
            from ..reporting.run_figures import range_figure
            from ..reporting.style import save

            found = self.rates
            written.append(folder / "learning_rate.png")
            figure = range_figure(found.rates, found.losses, found.suggestion, found.given)
            save(figure, written[-1])
        return written


def found_settings(folder: Path) -> list[str] | None:
    """Return the keys of measured settings, as `Resolved.write` left them; None without any."""
    try:
        found: list[str] = json.loads((folder / _MEASURED_KEYS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return found


def resolve(settings: RunSettings, data: PictureData, deadline: float | None = None) -> Resolved:
    """Measure and choose what `settings` leaves open; sets the batch size of `data`.

    Args:
        settings, data: of the run.
        deadline: for comparing plans and sizes, on `time.perf_counter`; None for no limit. What it
            cuts short is not kept for later starts.

    Raises:
        ConfigError: the network cannot be made for these pictures, or no rate can be found.
    """
    choices = _Choices(settings, data, deadline)
    choices.without_timing()
    choices.threads()
    sized = settings.data.batch_size != _AUTO
    if _AUTO in to_plain(choices.settings.runtime).values() or not sized:
        choices.plan()
    if not sized:
        choices.batch_size()
    if settings.find_lr:
        choices.rate()
    measured = {"data.batch_size": not sized, "optimizer.lr": settings.find_lr}
    found = tuple(key for key, asked in measured.items() if asked)
    return Resolved(choices.settings, tuple(choices.notes), choices.timings, choices.rates, found)


def threads_of(settings: RunSettings) -> int:
    """Return `runtime.threads`, or torch's number, which respects OMP_NUM_THREADS."""
    threads = settings.runtime.threads
    return threads if isinstance(threads, int) else torch.get_num_threads()


def use_threads(settings: RunSettings) -> None:
    """Set the number of threads of torch to that of the settings, if they state one."""
    if isinstance(settings.runtime.threads, int):
        torch.set_num_threads(settings.runtime.threads)


def seconds_per_epoch(
    settings: RunSettings, data: PictureData, deadline: float | None = None
) -> float:
    """Estimate the seconds of an epoch's training steps from a few of them.

    The measurement is cached like those of plans, in processor time where one thread of a CPU
    trains: other programs slow that down as they do just now. `settings` must be resolved. If the
    steps would not end before the `deadline` (see `resolve`), the time is estimated from a step on
    a few pictures.
    """
    device = _device(settings)

    def measure() -> dict[str, Any]:
        use_threads(settings)
        seconds, whole = _step_seconds(settings, data, device, deadline)
        return {"seconds": seconds, "whole": whole}

    asked = {
        "runtime": to_plain(settings.runtime),
        "augment": to_plain(settings.augment),
        "batch": min(data.batch_size, data.samples),
    }
    found, _ = _kept("step", asked, settings, data=data, measure=measure, needed="whole")
    steps = len(data.batches("train", training=True))  # type: ignore[arg-type]
    alone = device.type == "cpu" and settings.runtime.threads == 1
    return steps * float(found["seconds"]) * (slowdown() if alone else 1.0)


class _Choices:
    """The settings of a run while one `auto` after another is replaced."""

    def __init__(self, settings: RunSettings, data: PictureData, deadline: float | None) -> None:
        self.settings = settings
        self.data = data
        self.deadline = deadline
        self.device = _device(settings)
        self.notes: list[str] = []
        self.timings: tuple[PlanTiming, ...] = ()
        self.rates: RangeTest | None = None

    def without_timing(self) -> None:
        """Choose threads of several processes, views of a prediction, monitor and epochs."""
        settings, trainer, runtime = self.settings, self.settings.trainer, self.settings.runtime
        processes = trainer.devices if isinstance(trainer.devices, int) else 1
        if self.device.type == "cpu" and processes > 1 and runtime.threads in (None, _AUTO):
            # With more threads than cores, all of them wait for each other.
            self._set("runtime", threads=max(1, torch.get_num_threads() // processes))
        if build.network_of(self.settings).stores_views and runtime.compile == _AUTO:
            self._set("runtime", compile=False)  # training goes past what would be compiled
        if trainer.tta == _AUTO:
            # Mirrored views are unlike the training pictures of a network trained without.
            flip = settings.augment.flip
            mirrored = settings.data.mirror_ok if flip is None else flip
            self._set("trainer", tta="flip" if mirrored else "none")
        if trainer.monitor == _AUTO:
            self._set("trainer", monitor=primary_of(settings.data.target))
        if trainer.max_epochs == _AUTO:
            epochs = _PICTURES_SEEN // self.data.samples
            self._set("trainer", max_epochs=min(_MOST_EPOCHS, max(_LEAST_EPOCHS, epochs)))

    def threads(self) -> None:
        """Take as many CPU threads as there are free cores, unless a number is stated."""
        most = torch.get_num_threads()
        stated = self.settings.runtime.threads != _AUTO or "OMP_NUM_THREADS" in os.environ
        if self.device.type != "cpu" or stated or most == 1:
            return
        others = others_load()
        free = threads_beside(others, most)
        if free != most:
            self._set("runtime", threads=free)
            self.notes.append(
                f"runtime: {threads_text(free)} instead of {most}, because other programs use "
                f"{others:.1f} cores just now (runtime.threads={most} takes all the same)"
            )

    def plan(self) -> None:
        """Take the fastest plan of arithmetic."""
        settings, data, device = self.settings, self.data, self.device
        steps = len(data.batches("train", training=True))  # type: ignore[arg-type]
        total_steps = steps * settings.trainer.epochs

        def measure() -> dict[str, Any]:
            return _compared(settings, data, device, total_steps, self.deadline).plain()

        key = {
            "runtime": to_plain(settings.runtime),
            "batch": min(data.batch_size, data.samples),
            "dtype": data.pictures.format.dtype,
            "depthwise": "float32",  # earlier timings were of half precision there
            # Whether compiling was worth a try depends on the length of the training.
            "magnitude": round(math.log10(total_steps)) if device.type == "cuda" else None,
        }
        # Without timings nothing is stored: this training is too short for them.
        found, known = _kept("plan", key, settings, data=data, measure=measure, needed="timings")
        choice = ChosenPlan.from_plain(found)
        self.timings = choice.timings
        self._set("runtime", **asdict(choice.plan))
        note = choice.text(on_cpu=device.type == "cpu")
        self.notes.append(f"runtime: {note}{_EARLIER if known else ''}")

    def batch_size(self) -> None:
        """Take the smallest batch that is nearly as fast as any."""
        settings, data, device = self.settings, self.data, self.device
        most = max(_LEAST_BATCH, min(_MOST_BATCH, data.samples // _LEAST_STEPS))

        def measure() -> dict[str, Any]:
            print("batch size: measuring which is the fastest")
            use_threads(settings)
            speeds: dict[str, float] = {}
            size, whole = _LEAST_BATCH, True
            while whole and size <= most:
                data.batch_size = size
                try:
                    seconds, whole = _step_seconds(settings, data, device, self.deadline)
                    speeds[str(size)] = size / seconds
                except (torch.OutOfMemoryError, MemoryError):
                    break
                size *= 2
            if not speeds:
                raise ConfigError(
                    f"data.batch_size is auto, but not even {_LEAST_BATCH} pictures fit in memory: "
                    "take a smaller network or data.image_size."
                )
            return {"images_per_second": speeds, "whole": whole}

        key = {"runtime": to_plain(settings.runtime), "most": most}
        found, known = _kept("batch", key, settings, data=data, measure=measure, needed="whole")
        speeds = {int(size): speed for size, speed in found["images_per_second"].items()}
        best = max(speeds.values())
        size = min(size for size, speed in speeds.items() if speed >= _FAST_ENOUGH * best)
        data.batch_size = size
        self._set("data", batch_size=size)
        listed = ", ".join(f"{size}: {speed:,.0f}" for size, speed in speeds.items())
        earlier = _EARLIER if known else ""
        self.notes.append(f"batch size: {size} (images/s: {listed}){earlier}")

    def rate(self) -> None:
        """Set the learning rate by a range test."""
        settings = self.settings
        use_threads(settings)
        task = build.build_task(settings, self.data)
        build.refuse_fitted_head(task, settings, self.data)
        build.start_network(task, settings, self.data, self.device, head=False)
        batches: Any = self.data.batches("train", training=True)
        group = min(settings.trainer.accumulate_batches, len(batches))
        with input_of("find_lr"):
            found = range_test(_stepper(settings, task, self.device), _endless(batches), group)
        self.rates = found
        self._set("optimizer", lr=found.suggestion)
        self.settings = replace(self.settings, find_lr=False)
        self.notes.append(
            f"learning rate: {found.suggestion:g}, a tenth of where the loss was lowest "
            f"(instead of {settings.optimizer.lr:g})"
        )

    def _set(self, group: str, **values: Any) -> None:
        self.settings = _with(self.settings, group, **values)


def _compared(
    settings: RunSettings,
    data: PictureData,
    device: torch.device,
    total_steps: int,
    deadline: float | None,
) -> ChosenPlan:
    """Return the fastest of the plans that the runtime leaves open; arguments as of `_Choices`."""
    threads, stated = threads_of(settings), _stated(settings)
    network = build.build_task(_concrete(settings, threads), data).network
    # Plans are compared without it: compiling each would take longer than they can differ by.
    compiled = stated.pop("compile", None) is True
    deep = data.pictures.format.dtype == "float32"

    def allowed(plan: TrainingPlan) -> bool:
        # Half precision would round away what pixels of more than 8 bits have.
        half = deep and plan.precision != "float32" and settings.runtime.precision == _AUTO
        wanted = settings.runtime.compile == _AUTO or not plan.compile
        return not half and wanted and all(getattr(plan, k) == v for k, v in stated.items())

    plans = [p for p in sensible_plans(network, device, threads=threads) if allowed(p)]
    choice = time_plans(
        plans or [TrainingPlan(**_stated(_concrete(settings, threads)))],
        lambda plan: build.build_task(_with(settings, "runtime", **asdict(plan)), data),
        next(iter(data.batches("train", training=True))),
        device=device,
        allowed=allowed,
        gradient_clip=settings.trainer.gradient_clip,
        total_steps=total_steps,
        seconds=None if deadline is None else deadline - time.perf_counter(),
    )
    return replace(choice, plan=replace(choice.plan, compile=choice.plan.compile or compiled))


def _step_seconds(
    settings: RunSettings, data: PictureData, device: torch.device, deadline: float | None
) -> tuple[float, bool]:
    """Return the seconds of a training step, and whether they are of a whole batch."""
    batch = next(iter(data.batches("train", training=True)))
    stepper = _stepper(settings, build.build_task(settings, data), device)
    return step_seconds(stepper, batch, deadline)


def _stepper(settings: RunSettings, task: ClassificationTask, device: torch.device) -> Stepper:
    return Stepper(
        task,
        precision=settings.runtime.precision,
        device=device,
        gradient_clip=settings.trainer.gradient_clip,
    )


def _endless(loader: Any) -> Iterator[Batch]:
    """Yield training batches, epoch after epoch."""
    for epoch in count():
        loader.set_epoch(epoch)
        yield from loader


def _kept(
    kind: str,
    asked: dict[str, Any],
    settings: RunSettings,
    *,
    data: PictureData,
    measure: Callable[[], dict[str, Any]],
    needed: str,
) -> tuple[dict[str, Any], bool]:
    """Return the result of `measure`, or of an earlier start, and whether it is the latter.

    A result whose entry `needed` is empty is not kept for later starts.
    """
    model = to_plain(settings.model)
    known = {
        **asked,
        "machine": machine(_device(settings)) | {"threads": torch.get_num_threads()},
        # With published weights pictures have another size, whichever weights they are.
        "model": {k: bool(v) if k == "pretrained" else v for k, v in model.items()},
        # A network for pixels has another last part, and a loss over as many answers as pixels.
        "target": settings.data.target,
        "fit": settings.data.fit,
        "optimizer": settings.optimizer.name,
        "pictures": [data.pictures.channels, *data.pictures.image_size],
        "classes": len(data.pictures.class_names),
    }
    cache_dir = settings.data.cache_dir
    earlier = load_measurement(kind, known, cache_dir)
    if earlier is not None and not (earlier.disturbed and is_idle()):
        return earlier.found, True
    size = data.batch_size
    try:
        with own_threads(), CpuLoad() as load:
            found = measure()
    finally:
        data.batch_size = size
    if found[needed]:
        store_measurement(kind, known, CachedMeasurement(found, load.disturbed), cache_dir)
    return found, False


def _device(settings: RunSettings) -> torch.device:
    """Return the device, with the number that Lightning gives it: pictures lie on it once."""
    device = device_of(settings.trainer.accelerator)
    return torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" else device


def _with(settings: RunSettings, group: str, **values: Any) -> RunSettings:
    return replace(settings, **{group: replace(getattr(settings, group), **values)})


def _concrete(settings: RunSettings, threads: int) -> RunSettings:
    """Return the settings with the simplest value for each `auto` of the runtime."""
    simplest = asdict(TrainingPlan("float32", "channels_last", False, threads))
    return _with(settings, "runtime", **(simplest | _stated(settings)))


def _stated(settings: RunSettings) -> dict[str, Any]:
    """Return the values of the runtime that are given, and not left to timing."""
    runtime = to_plain(settings.runtime)
    return {k: runtime[k] for k in _PLANNED if runtime[k] not in (_AUTO, None)}
