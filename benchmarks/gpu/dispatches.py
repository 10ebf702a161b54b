"""What a training step asks the device for, and how long it takes the processor to ask, by phase.

A device that computes a step in less than that waits for the processor. Operations are counted as
torch dispatches them; what a captured graph holds is launched with it, and is no operation.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import pytorch_lightning as pl
import torch
from pytorch_lightning.loops.optimization.automatic import Closure
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.gpu.training import opened, watched, with_epochs
from benchmarks.table import Row
from src.data.loading.loaders import BatchLoader
from src.runs.experiment import run_experiment
from src.training.cuda_graphs import GraphedPasses
from src.training.epochs import EpochKeeper
from src.training.losses import CrossEntropy
from src.training.optimizers import MuonSGD
from src.training.task import ClassificationTask
from src.training.totals import RunningTotals
from src.training.weight_averages import WeightAverage

__all__ = ["Operations", "dispatches"]

_SPEEDRUN = ("recipe=speedrun",)
_COUNTS = {"train": 12 * 1024, "val": 64}
_EPOCHS = 5
# Operations that launch nothing: views, and what makes or describes a tensor.
_FREE = frozenset(
    {
        *("alias", "as_strided", "detach", "expand", "permute", "select", "slice", "split"),
        *("split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view"),
        *("_unsafe_view", "_reshape_alias", "empty", "empty_like", "lift_fresh", "device"),
        *("_record_function_enter_new", "_record_function_exit"),
    }
)
# What each phase is the work of; that of Lightning is all the rest.
_PHASES: tuple[tuple[str, type, str], ...] = (
    ("gather", BatchLoader, "_batches"),
    ("augmentation", ClassificationTask, "augmented"),
    ("network", GraphedPasses, "__call__"),
    ("loss", CrossEntropy, "forward"),
    ("metrics", RunningTotals, "add"),
    ("rest of the step", ClassificationTask, "training_step"),
    ("backward", ClassificationTask, "backward"),
    ("Lightning", Closure, "closure"),
    ("optimizer", MuonSGD, "step"),
    ("average", WeightAverage, "update"),
    ("schedule", torch.optim.lr_scheduler.LambdaLR, "step"),
    ("callback", EpochKeeper, "on_train_batch_end"),
)


class Operations(TorchDispatchMode):
    """Counts the operations that a device is asked for while it is entered.

    Args:
        phase: returns which one it is.

    Attributes:
        names: phase and name of the operations, and how many they are.
    """

    def __init__(self, phase: Callable[[], str] = lambda: "") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[tuple[str, str]] = Counter()
        self._phase = phase

    @property
    def counts(self) -> Counter[str]:
        """How many there are in each phase."""
        found: Counter[str] = Counter()
        for (phase, _), count in self.names.items():
            found[phase] += count
        return found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name not in _FREE:
            self.names[self._phase(), name] += 1
        return func(*args, **(kwargs or {}))


class _Phases:
    """Which phase of a step it is, and the seconds of the process in each, without those within it.

    Backward passes on a GPU are launched by a thread of their own, so all threads count.
    """

    def __init__(self) -> None:
        self._open = ["Lightning"]
        self._since = time.process_time()
        self.seconds: Counter[str] = Counter()

    @property
    def now(self) -> str:
        return self._open[-1]

    def restart(self) -> None:
        self.seconds.clear()
        self._since = time.process_time()

    def count(self) -> None:
        """Add the time since the last change to the phase that it is."""
        now = time.process_time()
        self.seconds[self.now] += now - self._since  # type: ignore[assignment]
        self._since = now

    @contextmanager
    def _within(self, phase: str) -> Iterator[None]:
        self.count()
        self._open.append(phase)
        try:
            yield
        finally:
            self.count()
            self._open.pop()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow the phases of trainings meanwhile."""
        with ExitStack() as stack:
            for phase, owner, name in _PHASES:
                made = self._iterating if name == "_batches" else self._calling
                stack.enter_context(
                    mock.patch.object(owner, name, made(phase, getattr(owner, name)))
                )
            yield

    def _calling(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._within(phase):
                return function(*args, **kwargs)

        return call

    def _iterating(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def iterate(*args: Any, **kwargs: Any) -> Iterator[Any]:
            batches = iter(function(*args, **kwargs))
            while True:
                with self._within(phase):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

        return iterate


class _Steady(pl.Callback):
    """Counts in one epoch and takes the time in another, from the second step to the last."""

    def __init__(self, phases: _Phases, *, counted_in: int, timed_in: int) -> None:
        self.operations = Operations(lambda: phases.now)
        self.steps = 0
        self.seconds: dict[str, float] = {}
        self._phases = phases
        self._counted_in, self._timed_in = counted_in, timed_in
        self._open = ExitStack()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        first, last = batch_idx == 0, batch_idx == trainer.num_training_batches - 1
        if trainer.current_epoch == self._counted_in:
            if first:
                self._open.enter_context(self.operations)
            elif last:
                self._open.close()
                self.steps = batch_idx
        if trainer.current_epoch == self._timed_in:
            if first:
                self._phases.restart()
            elif last:
                self._phases.count()
                self.seconds = {k: v / batch_idx for k, v in self._phases.seconds.items()}


def dispatches(
    device: torch.device,
    folder: Path,
    *,
    overrides: Sequence[str] = _SPEEDRUN,
    counts: Mapping[str, int] = _COUNTS,
) -> Iterator[Row]:
    """Operations and processor time of a steady training step, by phase.

    A step that counts has an even epoch: with `augment.alternate_flip` odd ones have two more.

    Args:
        device: of the training.
        folder: for the pictures and the run.
        overrides: further overrides of the run.
        counts: pictures of each part.
    """
    settings, data = opened(device, folder, counts, overrides)
    phases = _Phases()
    steady = _Steady(phases, counted_in=2, timed_in=_EPOCHS - 1)
    with phases.followed(), watched(steady):
        run_experiment(with_epochs(settings, _EPOCHS), data=data)
    for (phase, name), count in sorted(steady.operations.names.items()):
        print(f"{phase:20} {name:28} {count / steady.steps:g}", flush=True)
    found = {k: v / steady.steps for k, v in steady.operations.counts.items()}
    parts = [
        f"{phase} {found.get(phase, 0):g} in {1e6 * seconds:.0f} us"
        for phase, seconds in sorted(steady.seconds.items(), key=lambda item: -item[1])
    ]
    yield Row(
        f"operations that a step dispatches ({settings.model.name}, {settings.optimizer.name})",
        f"{sum(found.values()):g} in {1e3 * sum(steady.seconds.values()):.2f} ms of the "
        f"processor: {', '.join(parts)}",
        "",
        None,
    )
