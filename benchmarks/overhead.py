"""What the whole stack costs: our epochs against those of a bare loop, and the time that tracking
takes from the training thread.

Both train the default cnn under the same plan on the same augmented batches of Fashion-MNIST, and
validate after each epoch. The stack adds Lightning, tracking in MLflow, the progress bar on a
terminal, running accuracy, history, and a checkpoint every epoch. They take turns.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.fashion_part import write_part
from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.config.schema import RunSettings
from src.data.loading.picture_data import PictureData
from src.models.arithmetic import autocast
from src.runs import build
from src.runs.build.task import make_schedule
from src.runs.experiment import run_experiment
from src.runs.resolve import resolve
from src.tracking.tracker import Tracker
from src.training.cost import wait_for

__all__ = ["bare_epochs", "measure"]

_ROUNDS = 5
_EPOCHS = 4
_PICTURES = 10_000


def measure() -> list[Row]:
    """Epochs but the first, in which kernels are chosen."""
    ratios, shares = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_part(folder, _PICTURES)
        overrides = [
            "data=fashion_mnist",
            f"data.root={folder}",
            f"data.cache_dir={folder / 'cache'}",
        ]
        overrides += [
            f"trainer.max_epochs={_EPOCHS}",
            "evaluate_test=false",
            f"output_dir={folder}",
        ]
        settings = read_run_settings(overrides)
        data = build.build_data(settings)
        settings = resolve(settings, data).settings
        if isinstance(settings.runtime.threads, int):
            torch.set_num_threads(settings.runtime.threads)
        for turn in range(_ROUNDS):
            stack, share = _stack(settings)
            epochs = bare_epochs(settings, data, torch.device("cpu"))
            bare = statistics.median(whole for _, whole in epochs[1:])
            print(f"round {turn + 1}: {stack:.2f} s against {bare:.2f} s an epoch", flush=True)
            ratios.append(stack / bare)
            shares.append(100 * share)
    return [
        Row(
            "a step of the whole stack against a bare PyTorch loop, default cnn",
            spread(ratios, digits=3),
            "at most 1.03x",
            statistics.median(ratios) <= 1.03,
        ),
        Row(
            "time of the training thread spent in tracking",
            spread(shares, " %", 3),
            "at most 1 %",
            statistics.median(shares) <= 1,
        ),
    ]


def _stack(settings: RunSettings) -> tuple[float, float]:
    """Median seconds of an epoch, and the share of them spent in tracking."""
    moments: list[float] = []
    with _terminal(), _timed(Tracker, "metrics") as spent:
        run_experiment(settings, lambda epoch, metrics: moments.append(time.perf_counter()))
    epochs = [end - start for start, end in itertools.pairwise(moments)]
    return statistics.median(epochs), statistics.median(spent) / statistics.median(epochs)


def bare_epochs(
    settings: RunSettings, data: PictureData, device: torch.device, epochs: int = _EPOCHS
) -> list[tuple[float, float]]:
    """Seconds of the training steps of each epoch, and of all of it, of the shortest loop that does
    the same arithmetic.
    """
    task = build.build_task(settings, data).to(device)
    data.live_on(device)
    network, loss_of, augment = task.network, task.loss, task.augmented
    optimizer = task.make_optimizer(network)
    precision = settings.runtime.precision
    train: Any = data.batches("train", training=True)
    factor = make_schedule(settings.scheduler, epochs * len(train))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    seconds = []
    for epoch in range(epochs):
        began = time.perf_counter()
        train.set_epoch(epoch)
        network.train()
        for batch in train:
            images, targets = augment(batch, epoch)
            with autocast(device, precision):
                loss = loss_of(network(task.normalized(images)), targets)
            loss.backward()
            if settings.trainer.gradient_clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), settings.trainer.gradient_clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if task.average is not None:
                task.average.update(network)
        wait_for(device)
        trained = time.perf_counter() - began
        evaluated = task.evaluated.eval()
        with torch.no_grad(), autocast(device, precision):
            for batch in data.batches("val"):
                nn.functional.cross_entropy(evaluated(task.normalized(batch.images)), batch.targets)
        wait_for(device)
        seconds.append((trained, time.perf_counter() - began))
    return seconds


@contextlib.contextmanager
def _timed(owner: type, name: str) -> Iterator[list[float]]:
    """The seconds of every call of a method."""
    original: Callable[..., Any] = getattr(owner, name)
    spent: list[float] = []

    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            spent.append(time.perf_counter() - began)

    setattr(owner, name, timed)
    try:
        yield spent
    finally:
        setattr(owner, name, original)


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """Standard error is a terminal, on which the progress bar moves, and somebody reads it."""
    master, slave = os.openpty()

    def read() -> None:
        with contextlib.suppress(OSError):
            while os.read(master, 65536):
                continue

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    before, sys.stderr = sys.stderr, os.fdopen(slave, "w")
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        os.close(master)
