"""How fast training batches come: ours against a DataLoader with transforms of each picture.

Both deliver the same thing: shuffled batches of 128, each picture flipped and shifted by up to four
pixels on its own, normalised, float32. Rounds take turns, so that a busy machine slows all alike.
The time in which workers start is not counted. One thread for torch, as a worker has it: batches
this small gain little from more, and lose much where other programs hold the cores. Takes some 5 s
a round on two cores.

A second comparison is on photos of 224x224, batches of 64 in memory: randomly cropped and mirrored,
under TrivialAugment, and both, against torchvision's transforms of each picture in a loop, uint8 to
uint8 with bilinear interpolation on one thread. Takes some 15 s.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.transforms import v2

from benchmarks.table import Row, spread
from src.config.augment import AugmentSettings
from src.data.augmentation.augment import Augment
from src.data.augmentation.transforms import normalize
from src.data.loading.loaders import BatchLoader, BatchOrder

__all__ = ["measure"]

BAR = 10.0
ROUNDS = 5
PHOTO_ROUNDS = 9
BATCH_SIZE = 128
SHIFT = 4
# Not timed: the first batches of a pass, for which workers fill their queues.
WARM_BATCHES = 8
# A pass of the slow way. It ends by itself, so that no worker goes on into the next one's turn.
SLOW_BATCHES = 70
MEAN, STD = 0.4, 0.3
PHOTOS = (64, 3, 224, 224)
PHOTO_BAR = 1.0
CROP_SCALE = (0.35, 1.0)


class PerPicture(Dataset[tuple[Tensor, int]]):
    """Pictures (H, W, C), each transformed when it is asked for: what most projects do."""

    def __init__(self, images: NDArray[np.uint8], targets: NDArray[np.int64]) -> None:
        self.images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        self.targets = targets
        channels = images.shape[1]
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomHorizontalFlip(),
                v2.RandomCrop(images.shape[2:], padding=SHIFT),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([MEAN] * channels, [STD] * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.targets[index])


def per_picture(
    images: NDArray[np.uint8], targets: NDArray[np.int64], workers: int
) -> Callable[[int], Iterator[Tensor]]:
    """Epoch -> batches, (B, C, H, W) float32, of the usual way."""
    dataset = PerPicture(images, targets)
    loader = DataLoader(
        dataset,
        batch_size=BATCH_SIZE,
        sampler=RandomSampler(dataset, num_samples=SLOW_BATCHES * BATCH_SIZE),
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda _: (batch[0] for batch in loader)


def per_batch(
    images: NDArray[np.uint8], targets: NDArray[np.int64]
) -> Callable[[int], Iterator[Tensor]]:
    """Epoch -> batches, (B, C, H, W) float32, of this project."""
    order = BatchOrder(np.arange(len(images)), batch_size=BATCH_SIZE, training=True, seed=0)
    loader = BatchLoader(images, targets, order)
    augment = Augment(AugmentSettings(flip=True, translate=SHIFT / images.shape[2]))
    mean, std = torch.full((images.shape[1],), MEAN), torch.full((images.shape[1],), STD)

    def batches(epoch: int) -> Iterator[Tensor]:
        loader.set_epoch(epoch)
        for batch in loader:
            augmented, _ = augment(
                batch.images, batch.targets, batch.sample_ids, seed=0, epoch=epoch, step=batch.step
            )
            yield normalize(augmented, mean, std)

    return batches


def images_per_second(batches: Iterator[Tensor]) -> float:
    """Speed of one pass."""
    for _ in itertools.islice(batches, WARM_BATCHES):
        pass
    began = time.perf_counter()
    images = sum(len(batch) for batch in batches)
    return images / (time.perf_counter() - began)


def compare(shape: tuple[int, int, int, int]) -> list[Row]:
    """Ratios of interleaved rounds for pictures of one shape (N, C, H, W)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, shape, np.uint8)
    targets = rng.integers(0, 10, len(images))
    ours = per_batch(images, targets)
    usual = {workers: per_picture(images, targets, workers) for workers in (0, 2)}
    ratios: dict[int, list[float]] = {workers: [] for workers in usual}
    for epoch in range(ROUNDS):
        speed = images_per_second(ours(epoch))
        for workers, batches in usual.items():
            ratios[workers].append(speed / images_per_second(batches(epoch)))
    size = "x".join(str(side) for side in (*shape[2:], shape[1]))
    return [
        Row(
            f"augmented batches of {size}, images/s, against DataLoader with per-sample "
            f"transforms, {workers} workers",
            spread(found, digits=0),
            f"at least {BAR:.0f}x",
            statistics.median(found) >= BAR,
        )
        for workers, found in ratios.items()
    ]


def photo_ways() -> dict[str, tuple[Augment, v2.Transform]]:
    """What is done to photos -> ours on a batch, and torchvision's on a picture."""
    resized = v2.RandomResizedCrop(PHOTOS[2:], scale=CROP_SCALE)
    trivial = v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)
    cropping = AugmentSettings(crop_probability=1.0, crop_scale=list(CROP_SCALE), flip=True)
    return {
        "cropped and mirrored": (
            Augment(cropping),
            v2.Compose([resized, v2.RandomHorizontalFlip()]),
        ),
        "TrivialAugment": (Augment(AugmentSettings(policy="trivial")), trivial),
        "cropped, mirrored, TrivialAugment": (
            Augment(replace(cropping, policy="trivial")),
            v2.Compose([resized, v2.RandomHorizontalFlip(), trivial]),
        ),
    }


def compare_photos() -> list[Row]:
    """Speeds of interleaved rounds on one batch, and their ratios."""
    # Smooth, as photos are: noise makes some of torchvision's operations six times slower.
    spots = torch.rand(*PHOTOS[:2], 12, 12, generator=torch.Generator().manual_seed(0))
    images = (F.interpolate(spots, PHOTOS[2:], mode="bicubic") * 255).clamp(0, 255).to(torch.uint8)
    ids = torch.arange(len(images))
    rows = []
    for what, (ours, theirs) in photo_ways().items():
        speeds, ratios = [], []
        for epoch in range(-1, PHOTO_ROUNDS):
            began = time.perf_counter()
            ours(images, ids, ids, seed=0, epoch=epoch + 1, step=0)
            between = time.perf_counter()
            torch.stack([theirs(image) for image in images])
            ended = time.perf_counter()
            if epoch >= 0:  # the first round brings memory and kernels
                speeds.append(len(images) / (between - began))
                ratios.append((ended - between) / (between - began))
        rows.append(
            Row(
                f"photos of 224x224x3, {what}, one thread, "
                f"{statistics.median(speeds):,.0f} images/s, against torchvision a picture",
                spread(ratios),
                f"at least {PHOTO_BAR:.0f}x",
                statistics.median(ratios) >= PHOTO_BAR,
            )
        )
    return rows


def measure() -> list[Row]:
    """Both shapes, one thread, and photos."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        shapes = ((55_000, 1, 28, 28), (50_000, 3, 32, 32))
        return [*(row for shape in shapes for row in compare(shape)), *compare_photos()]
    finally:
        torch.set_num_threads(threads)
