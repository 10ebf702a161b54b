"""Every `auto` of the settings becomes a value, before the run's folder exists.

What is measured once is kept per machine, network and shape, so that the same command computes the
same numbers the next time; the run's own settings hold the values, so a resumed run has them too.
Only what was measured while other programs held the cores is measured again, once they do not.
The number of threads depends on the load at the start as well, and then stays: with another one
sums are rounded otherwise, and a resumed run would differ from one that was not interrupted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from src.config.checks import ConfigError, to_plain
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.data.loading.loaders import Batch
from src.machine.cpu_load import CpuLoad, is_idle, others_load, threads_beside
from src.machine.hardware import machine
from src.runs import build
from src.storage.cache import Record, load_record, store_record
from src.training.stepper import RangeTest, Stepper, range_test
from src.training.training_plan import (
    Choice,
    Timing,
    TrainingPlan,
    sensible_plans,
    time_plans,
)

__all__ = ["Resolved", "resolve", "seconds_per_epoch"]

_AUTO = "auto"
_LEAST_BATCH, _MOST_BATCH = 16, 1024
# An epoch of fewer steps learns too little from each picture it sees.
_LEAST_STEPS = 16
# The smallest batch that is nearly as fast as any: larger ones learn less from the same pictures.
_FAST_ENOUGH = 0.9
_TIMED_STEPS = 3
# A training sees this many pictures, repeated ones included, within bounds for few and for many.
_PICTURES_SEEN, _LEAST_EPOCHS, _MOST_EPOCHS = 650_000, 10, 30


@dataclass(frozen=True)
class Resolved:
    """A run's settings without any `auto`, and where their values came from.

    Attributes:
        settings: what the run does.
        notes: a line for each thing that was chosen.
        timings: of the plans that were compared; empty where the runtime was given.
        rates: of the range test, where there was one.
    """

    settings: RunSettings
    notes: tuple[str, ...] = ()
    timings: tuple[Timing, ...] = ()
    rates: RangeTest | None = None

    def runtime_record(self) -> dict[str, Any]:
        """The chosen plan and the timings it was chosen by, for JSON."""
        return {
            "chosen": to_plain(self.settings.runtime),
            "timings": [timing.plain() for timing in self.timings],
        }


def resolve(settings: RunSettings, data: PictureData) -> Resolved:
    """Measure and choose what `settings` leaves open; sets the batch size of `data`.

    Raises:
        ConfigError: the network cannot be made for these pictures, or no rate can be told.
    """
    device = _device(settings)
    processes = settings.trainer.devices
    shared = device.type == "cpu" and isinstance(processes, int) and processes > 1
    if shared and settings.runtime.threads in (None, _AUTO):
        # With more threads than cores, all of them wait for each other.
        share = max(1, torch.get_num_threads() // int(processes))
        settings = _with(settings, "runtime", threads=share)
    resolved = _with_epochs(Resolved(_with_views(settings)), data)
    if device.type == "cpu":
        resolved = _with_threads(resolved)
    settings = resolved.settings
    sized = settings.data.batch_size != _AUTO
    if _AUTO in to_plain(settings.runtime).values() or not sized:
        resolved = _with_plan(resolved, data, device)
    if not sized:
        resolved = _with_batch_size(resolved, data, device)
    if settings.find_lr:
        resolved = _with_rate(resolved, data, device)
    return resolved


def seconds_per_epoch(settings: RunSettings, data: PictureData) -> float:
    """Return about what an epoch's training steps take, in seconds.

    From a few real steps, which are kept like the plans, so that a later start need not repeat
    them. Everything in `settings` must be resolved.
    """
    device = _device(settings)

    def measure() -> _Measured:
        if isinstance(settings.runtime.threads, int):
            torch.set_num_threads(settings.runtime.threads)
        return _Measured({"seconds": _step_seconds(settings, data, device)})

    asked = {
        "runtime": to_plain(settings.runtime),
        "augment": to_plain(settings.augment),
        "batch": min(data.batch_size, len(data.split.train)),
    }
    found, _ = _kept("step", asked, settings, data, device, measure)
    steps = len(data.batches("train", training=True))  # type: ignore[arg-type]
    return steps * float(found["seconds"])


def _with_views(settings: RunSettings) -> RunSettings:
    if settings.trainer.tta != _AUTO:
        return settings
    # A network that never saw a mirrored picture would be asked about something new.
    flip = settings.augment.flip
    mirrored = settings.data.mirror_ok if flip is None else flip
    return _with(settings, "trainer", tta="flip" if mirrored else "none")


def _with_epochs(resolved: Resolved, data: PictureData) -> Resolved:
    settings, pictures = resolved.settings, len(data.split.train)
    if settings.trainer.max_epochs != _AUTO:
        return resolved
    epochs = min(_MOST_EPOCHS, max(_LEAST_EPOCHS, _PICTURES_SEEN // pictures))
    return replace(resolved, settings=_with(settings, "trainer", max_epochs=epochs))


def _with_threads(resolved: Resolved) -> Resolved:
    """As many threads as find a free core, where neither the settings nor the user's
    OMP_NUM_THREADS say how many; they stay as many to the end, because sums depend on it."""
    most = torch.get_num_threads()
    if resolved.settings.runtime.threads != _AUTO or most == 1 or "OMP_NUM_THREADS" in os.environ:
        return resolved
    others = others_load()
    count = threads_beside(others, most)
    if count == most:
        return resolved
    note = (
        f"runtime: {_threads(count)} instead of {most}, because other programs use "
        f"{others:.1f} cores just now (runtime.threads={most} takes all the same)"
    )
    return replace(
        resolved,
        settings=_with(resolved.settings, "runtime", threads=count),
        notes=(*resolved.notes, note),
    )


def _with_plan(resolved: Resolved, data: PictureData, device: torch.device) -> Resolved:
    settings = resolved.settings
    steps = len(data.batches("train", training=True))  # type: ignore[arg-type]
    total_steps = steps * int(settings.trainer.max_epochs)

    def measure() -> _Measured:
        choice = _compared(settings, data, device, total_steps)
        timings = [timing.plain() for timing in choice.timings]
        found = {"plan": asdict(choice.plan), "timings": timings, "reason": choice.reason}
        # Without timings it only says that this training is too short for them.
        return _Measured(found, keep=bool(timings))

    key = {
        "runtime": to_plain(settings.runtime),
        "batch": min(data.batch_size, len(data.split.train)),
        # Whether compiling was worth a try depends on the length of the training.
        "magnitude": round(math.log10(total_steps)) if device.type == "cuda" else None,
    }
    found, known = _kept("plan", key, settings, data, device, measure)
    plan = TrainingPlan(**found["plan"])
    timings = tuple(Timing.from_plain(plain) for plain in found["timings"])
    return replace(
        resolved,
        settings=_with(settings, "runtime", **asdict(plan)),
        notes=(*resolved.notes, _plan_note(plan, timings, found["reason"], device, known)),
        timings=timings,
    )


def _compared(
    settings: RunSettings, data: PictureData, device: torch.device, total_steps: int
) -> Choice:
    threads = settings.runtime.threads
    count = threads if isinstance(threads, int) else torch.get_num_threads()
    network = build.build_task(_concrete(settings, count), data).network
    allowed = partial(_asked, settings)
    plans = [p for p in sensible_plans(network, device, threads=count) if allowed(p)]
    return time_plans(
        plans or [_plan_of(settings, count)],
        lambda plan: build.build_task(_with(settings, "runtime", **asdict(plan)), data),
        next(iter(data.batches("train", training=True))),
        device=device,
        allowed=allowed,
        gradient_clip=settings.trainer.gradient_clip,
        total_steps=total_steps,
    )


def _plan_note(
    plan: TrainingPlan,
    timings: Sequence[Timing],
    reason: str | None,
    device: torch.device,
    known: bool,
) -> str:
    """A line for people: what was chosen, and by which speeds."""
    threads = f", {_threads(plan.threads)}" if device.type == "cpu" else ""
    speeds = [_speed(timing, plan) for timing in timings if timing.plan != plan]
    for timing in timings:
        if timing.plan == plan:
            speeds = [_rate(timing), *speeds]
    if not timings:
        speeds = ["not measured, which would take too long for this training"]
        if reason is not None:
            speeds.append(reason)
    earlier = ", as measured at an earlier start" if known else ""
    return f"runtime: {plan}{threads} ({'; '.join(speeds)}){earlier}"


def _with_batch_size(resolved: Resolved, data: PictureData, device: torch.device) -> Resolved:
    settings = resolved.settings
    most = max(_LEAST_BATCH, min(_MOST_BATCH, len(data.split.train) // _LEAST_STEPS))

    def measure() -> _Measured:
        print("batch size: measuring which is the fastest")
        if isinstance(settings.runtime.threads, int):
            torch.set_num_threads(settings.runtime.threads)
        speeds: dict[str, float] = {}
        size = _LEAST_BATCH
        while size <= most:
            data.batch_size = size
            try:
                speeds[str(size)] = size / _step_seconds(settings, data, device)
            except (torch.OutOfMemoryError, MemoryError):
                break
            size *= 2
        if not speeds:
            raise ConfigError(
                f"data.batch_size is auto, but not even {_LEAST_BATCH} pictures fit in memory: "
                "take a smaller network or data.image_size."
            )
        return _Measured({"images_per_second": speeds})

    runtime = to_plain(settings.runtime)
    found, known = _kept(
        "batch", {"runtime": runtime, "most": most}, settings, data, device, measure
    )
    speeds = {int(size): speed for size, speed in found["images_per_second"].items()}
    best = max(speeds.values())
    size = min(size for size, speed in speeds.items() if speed >= _FAST_ENOUGH * best)
    data.batch_size = size
    listed = ", ".join(f"{size}: {speed:,.0f}" for size, speed in speeds.items())
    note = (
        f"batch size: {size} (images/s: {listed})"
        f"{', as measured at an earlier start' if known else ''}"
    )
    return replace(
        resolved,
        settings=_with(settings, "data", batch_size=size),
        notes=(*resolved.notes, note),
    )


def _with_rate(resolved: Resolved, data: PictureData, device: torch.device) -> Resolved:
    settings = resolved.settings
    if isinstance(settings.runtime.threads, int):
        torch.set_num_threads(settings.runtime.threads)
    try:
        found = range_test(_stepper(settings, data, device), _endless(data))
    except ValueError as error:
        raise ConfigError(f"find_lr: {error}.") from error
    note = (
        f"learning rate: {found.suggestion:g}, a tenth of where the loss was lowest "
        f"(instead of {settings.optimizer.lr:g})"
    )
    return replace(
        resolved,
        settings=replace(_with(settings, "optimizer", lr=found.suggestion), find_lr=False),
        notes=(*resolved.notes, note),
        rates=found,
    )


def _step_seconds(settings: RunSettings, data: PictureData, device: torch.device) -> float:
    stepper = _stepper(settings, data, device)
    batch = next(iter(data.batches("train", training=True)))
    stepper.step(batch)
    return min(stepper.timed(batch) for _ in range(_TIMED_STEPS))


def _stepper(settings: RunSettings, data: PictureData, device: torch.device) -> Stepper:
    return Stepper(
        build.build_task(settings, data),
        precision=settings.runtime.precision,
        device=device,
        gradient_clip=settings.trainer.gradient_clip,
    )


def _endless(data: PictureData) -> Iterator[Batch]:
    """Training batches, epoch after epoch."""
    loader: Any = data.batches("train", training=True)
    epoch = 0
    while True:
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


@dataclass(frozen=True)
class _Measured:
    """What a measurement found, and whether a later start may use it."""

    found: dict[str, Any]
    keep: bool = True


def _kept(
    kind: str,
    asked: dict[str, Any],
    settings: RunSettings,
    data: PictureData,
    device: torch.device,
    measure: Callable[[], _Measured],
) -> tuple[dict[str, Any], bool]:
    """What `measure` gives, or gave at an earlier start; and whether it is the latter."""
    model = to_plain(settings.model)
    known = {
        **asked,
        "machine": machine(device) | {"threads": torch.get_num_threads()},
        # With published weights pictures are taken at another size; which weights is all the same.
        "model": {k: bool(v) if k == "pretrained" else v for k, v in model.items()},
        "optimizer": settings.optimizer.name,
        "pictures": [data.pictures.channels, *data.pictures.image_size],
        "classes": len(data.pictures.class_names),
    }
    cache_dir = settings.data.cache_dir
    earlier = load_record(kind, known, cache_dir)
    if earlier is not None and not (earlier.disturbed and is_idle()):
        return earlier.found, True
    threads, size = torch.get_num_threads(), data.batch_size
    try:
        with CpuLoad() as load:
            measured = measure()
    finally:
        torch.set_num_threads(threads)
        data.batch_size = size
    if measured.keep:
        store_record(kind, known, Record(measured.found, load.disturbed), cache_dir)
    return measured.found, False


def _device(settings: RunSettings) -> torch.device:
    gpu = settings.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")


def _with(settings: RunSettings, group: str, **values: Any) -> RunSettings:
    return replace(settings, **{group: replace(getattr(settings, group), **values)})


def _asked(settings: RunSettings, plan: TrainingPlan) -> bool:
    """Whether a plan is what the settings force, where they force something."""
    given = {k: v for k, v in to_plain(settings.runtime).items() if v not in (_AUTO, None)}
    return all(getattr(plan, key) == value for key, value in given.items())


def _plan_of(settings: RunSettings, threads: int) -> TrainingPlan:
    """The settings' own plan, with what is simplest where they leave it open."""
    return TrainingPlan(**to_plain(_concrete(settings, threads).runtime))


def _concrete(settings: RunSettings, threads: int) -> RunSettings:
    simplest = {
        "precision": "float32",
        "memory_format": "channels_last",
        "compile": False,
        "threads": threads,
    }
    given = {k: v for k, v in to_plain(settings.runtime).items() if v not in (_AUTO, None)}
    return _with(settings, "runtime", **(simplest | given))


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _speed(timing: Timing, chosen: TrainingPlan) -> str:
    name = str(timing.plan)
    if timing.plan.threads != chosen.threads:
        name += f", {_threads(timing.plan.threads)}"
    return f"{name} {timing.reason or _rate(timing)}"


def _rate(timing: Timing) -> str:
    return f"{timing.images_per_second:,.0f} images/s"
