"""CIFAR-10 in seconds: `recipe=speedrun` against the published recipe in a bare loop of our own.

The reference is what Jordan describes ("94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024,
arXiv:2404.00498, listing 4 and table 1): the network and its initialisation, 9.9 epochs of SGD in
batches of 1,024 with rates of their own for biases, a triangular schedule, a lookahead average,
flips in turns, shifts of two pixels and predictions over six views. The author's own code is timed
as well where it is installed. All train on the same pictures in the same call, on a device that has
loaded its kernels.

94 % are published for CIFAR-10 as it is. The pictures of `cifar10-jpeg.tar.xz` have been through
strong JPEG (300 bytes a picture), and the published recipe comes to 90.7 % there: on these, that is
the bar.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.commands import trained
from benchmarks.gpu.airbench import Airbench
from benchmarks.gpu.pictures import cifar10_batches
from benchmarks.photo_sets import given as given_file
from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.data.loading.picture_data import PictureData
from src.models.whitened import WhitenedCNN
from src.runs import build
from src.runs.experiment import run_experiment
from src.training.cost import wait_for
from src.training.inference import averaged_logits

__all__ = ["reference", "speedrun"]

_BAR, _ACCURACY = 1.15, 0.94
# Means of three trainings of each differ by chance by some 0.13 points (their own spread is 0.15).
_LOSS = 0.003
_EPOCHS, _BATCH = 9.9, 1024
_RATE, _MOMENTUM, _DECAY, _BIAS_SCALE = 11.5, 0.85, 0.0153, 64.0
_SMOOTHING, _SHIFT = 0.2, 2
_WHITEN_BIAS_EPOCHS = 3
_START, _PEAK, _END = 0.2, 0.23, 0.07
_LOOKAHEAD_EVERY, _LOOKAHEAD = 5, 0.95**5
_OVERRIDES = ("recipe=speedrun", "data=cifar10", "data.train_on_val=true")
_QUIET = ("tracking=none", "tracking.figures=false", "tracking.log_model=false")


def speedrun(
    device: torch.device,
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    rounds: int = 3,
    widths: Sequence[int] = (64, 256, 256),
    epochs: float = _EPOCHS,
) -> Iterator[Row]:
    """Seconds of training and accuracy of each, in turns, and of the command line.

    Args:
        device: of the training.
        folder: for pictures and runs.
        overrides: further overrides of the run.
        limit: training and test pictures; None for all.
        rounds: trainings of each that count, after a short one that does not; each by a seed of
            its own.
        widths, epochs: of the reference.
    """
    published = given_file("cifar-10-python.tar.gz")
    root = published or cifar10_batches(folder / "cifar10", limit)
    if root is None:
        yield Row(
            "CIFAR-10 in seconds: `recipe=speedrun` against the published recipe",
            "skipped: BAKEOFF_PHOTOS names no folder with CIFAR-10",
            f"at most {_BAR}x",
            None,
        )
        return
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    given = [
        *_OVERRIDES,
        f"data.root={root}",
        f"trainer.accelerator={accelerator}",
        *_QUIET,
        *overrides,
    ]
    settings = read_run_settings([*given, f"output_dir={folder / 'outputs'}"])
    data = build.build_data(settings)
    data.live_on(device)
    author = Airbench.name() if device.type == "cuda" else None
    original = Airbench(data, folder / "airbench") if author else None
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    authors: list[tuple[float, float]] = []
    short = replace(settings, trainer=replace(settings.trainer, max_epochs=1))
    for turn in range(rounds + 1):  # the first loads the kernels
        summary = run_experiment(replace(settings, seed=turn) if turn else short, data=data)
        assert summary is not None
        metrics = summary.metrics
        found = metrics["cost/training_seconds"], metrics["test/accuracy"]
        bare = reference(data, device, widths=widths, epochs=epochs if turn else 1, seed=turn)
        own = [original(turn)] if original else []
        print(f"round {turn}: {found}, the published recipe {bare}, {author} {own}", flush=True)
        if turn:
            ours.append(found)
            theirs.append(bare)
            authors += own
    yield from _rows(ours, theirs, f"CIFAR-10{'' if published else ', once through JPEG'}")
    if authors:
        yield _against(ours, authors, f"the same against the author's code ({author})")
    seconds = trained(*given)["metrics"]["cost/training_seconds"]
    yield Row(
        "the same as a command, whose first steps load the kernels",
        f"{seconds:.1f} s of training",
        "at most 10 s more",
        seconds <= statistics.median(s for s, _ in ours) + 10,
    )


def _rows(
    ours: list[tuple[float, float]], theirs: list[tuple[float, float]], pictures: str
) -> Iterator[Row]:
    """Rows of seconds and accuracies: how right, and how fast against the published recipe."""
    mine, bare = (100 * statistics.mean(right for _, right in some) for some in (ours, theirs))
    least = 100 * _ACCURACY if "JPEG" not in pictures else bare - 100 * _LOSS
    yield Row(
        f"{pictures}, `recipe=speedrun`: test accuracy, mean of {len(ours)} seeds",
        f"{mine:.2f} %, the published recipe {bare:.2f} %",
        f"at least {least:.2f} %",
        mine >= least,
    )
    yield _against(ours, theirs, "the same against the published recipe in a bare loop")


def _against(ours: list[tuple[float, float]], theirs: list[tuple[float, float]], what: str) -> Row:
    """A row of training times; the other's accuracy is stated."""
    ratios = [mine / bare for (mine, _), (bare, _) in zip(ours, theirs)]
    right = 100 * statistics.mean(right for _, right in theirs)
    return Row(
        f"{what}: training time",
        f"{spread(ratios)}; {spread([s for s, _ in ours], ' s')} against "
        f"{spread([s for s, _ in theirs], ' s')} to {right:.2f} %",
        f"at most {_BAR}x",
        statistics.median(ratios) <= _BAR,
    )


def reference(
    data: PictureData,
    device: torch.device,
    *,
    widths: Sequence[int] = (64, 256, 256),
    epochs: float = _EPOCHS,
    seed: int = 0,
) -> tuple[float, float]:
    """Train by the published recipe; return seconds of training and test accuracy.

    Args:
        data: of which the training part is trained on; its pictures are colour and square.
        device: of the training.
        widths: channels of the three blocks.
        epochs: of it, which need not be whole.
        seed: of weights, order, flips and shifts.
    """
    torch.manual_seed(seed)
    assert data.pictures.images is not None
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in data.channel_statistics)

    pixels, targets = np.asarray(data.pictures.images), data.pictures.targets
    # Weights in half precision, as published; not every CPU computes in it.
    dtype = torch.float16 if device.type == "cuda" else torch.float32

    def part(ids: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        floats = (torch.from_numpy(pixels[ids]).to(device).float() / 255 - mean) / std
        images = floats.to(dtype).contiguous(memory_format=torch.channels_last)
        return images, torch.from_numpy(targets[ids]).to(device)

    images, labels = part(data.split.train)
    network = WhitenedCNN(
        3, len(data.pictures.class_names), data.pictures.image_size, widths=widths
    )
    network.start_from(images[:5000].float())
    network = network.to(device, dtype).to(memory_format=torch.channels_last)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.float()
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    wait_for(device)
    began = time.perf_counter()
    average = _train(network, norms, images, labels, epochs)
    wait_for(device)
    seconds = time.perf_counter() - began
    torch.backends.cudnn.benchmark = before
    return seconds, _accuracy(average.eval(), *part(data.split.test))


def _train(
    network: WhitenedCNN, norms: list[nn.BatchNorm2d], images: Tensor, labels: Tensor, epochs: float
) -> nn.Module:
    """Train, and return the network with the weights of the lookahead average."""
    batches = max(1, len(images) // _BATCH)
    size = min(_BATCH, len(images))
    steps = max(1, int(epochs * batches))
    kilo_rate = _RATE / (1024 * (1 + 1 / (1 - _MOMENTUM)))  # of the loss summed over a batch
    decay = _DECAY * size / _RATE
    biases = [norm.bias for norm in norms]
    first = network.whiten.bias
    known = {id(p) for p in (*biases, first)}
    kernels = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    groups = [
        {"params": biases, "lr": kilo_rate * _BIAS_SCALE, "weight_decay": decay / _BIAS_SCALE},
        {"params": [*kernels, first], "lr": kilo_rate, "weight_decay": decay},
    ]
    optimizer = torch.optim.SGD(groups, momentum=_MOMENTUM, nesterov=True, foreach=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _triangle(step / steps))
    tensors = [t for t in network.state_dict().values() if t.is_floating_point()]
    slow = [t.clone() for t in tensors]
    flips = torch.rand(len(images), device=images.device) < 0.5
    padded = F.pad(images, (_SHIFT,) * 4, "reflect")
    order = torch.randperm(len(images), device=images.device)
    network.train()
    for step in range(steps):
        epoch, place = divmod(step, batches)
        if place == 0:
            order = torch.randperm(len(images), device=images.device)
            first.requires_grad_(epoch < _WHITEN_BIAS_EPOCHS)
        rows = order[place * size : (place + 1) * size]
        batch = _cropped(padded, rows, flips[rows] ^ bool(epoch % 2), images.shape[2])
        logits = network(batch).float()
        loss = F.cross_entropy(logits, labels[rows], label_smoothing=_SMOOTHING, reduction="sum")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % _LOOKAHEAD_EVERY == 0:
            torch._foreach_lerp_(slow, tensors, 1 - _LOOKAHEAD * (step / steps) ** 3)
            torch._foreach_copy_(tensors, slow)
    torch._foreach_copy_(tensors, slow)
    return network


def _triangle(share: float) -> float:
    """The rate's factor: straight up to one, straight down again."""
    if share < _PEAK:
        return _START + (1 - _START) * share / _PEAK
    return 1 + (_END - 1) * (share - _PEAK) / (1 - _PEAK)


def _cropped(padded: Tensor, rows: Tensor, flips: Tensor, side: int) -> Tensor:
    """Return pictures of the rows, mirrored where `flips` says so, each at a place of its own."""
    count = len(rows)
    offsets = torch.randint(0, 2 * _SHIFT + 1, (2, count), device=padded.device)
    places = torch.arange(side, device=padded.device)
    down, across = offsets[0, :, None] + places, offsets[1, :, None] + places
    across = torch.where(flips[:, None], across.flip(1), across)
    channels = torch.arange(padded.shape[1], device=padded.device)[None, :, None, None]
    batch = padded[
        rows[:, None, None, None], channels, down[:, None, :, None], across[:, None, None, :]
    ]
    return batch.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    right = 0
    for begin in range(0, len(images), 2000):
        some = slice(begin, begin + 2000)
        logits = averaged_logits(network, images[some], "flip_shift")
        right += int((logits.argmax(1) == labels[some]).sum())
    return right / len(images)
