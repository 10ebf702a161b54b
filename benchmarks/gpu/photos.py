"""Published networks at the size of photos: describing pictures, and fine-tuning.

The networks have random weights, which changes no time, and needs nothing from the internet.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from benchmarks.gpu.pictures import write_drawn
from benchmarks.gpu.training import images_per_second
from benchmarks.table import Row, spread
from src.config.compose import read_run_settings
from src.features.embedding import NetworkFeatures
from src.features.feature_table import described
from src.machine.parallel import available_cores
from src.models.arithmetic import MEMORY_FORMATS, autocast
from src.models.zoo import TimmNet
from src.runs import build
from src.training.cost import wait_for
from src.training.inference_plan import InferencePlan, inference_plan

__all__ = ["bare_forward", "bare_tuning", "features", "finetune", "made_by_timm"]

_NETWORK, _SIDE = "vit_small_patch16_224", 224
_FEATURES_BAR, _TUNING_BAR = 0.9, 1.1
_AT_ONCE = 128


def features(
    device: torch.device,
    folder: Path,
    *,
    network: str = _NETWORK,
    side: int = _SIDE,
    count: int = 30_000,
    rounds: int = 2,
) -> Iterator[Row]:
    """Pictures a second from memory to features in memory, against the network's forward passes.

    Args:
        device: that computes.
        folder: for the cache of measured plans.
        network: timm's name.
        side: of the pictures in pixels.
        count: pictures to describe; a few hundred are there, over and over.
        rounds: of both, in turns.
    """
    arguments = {"name": network, "pretrained": None, "input_size": side, "stem": "keep"}
    made = TimmNet(3, 10, (side, side), **arguments, drop_rate=0.0).eval()  # type: ignore[arg-type]
    plan = inference_plan(made.to(device), (3, side, side), device, cache_dir=str(folder / "plans"))
    metadata = {
        "target": "src.models.zoo.TimmNet",
        "arguments": arguments,
        "channels": 3,
        "classes": 10,
        "image_size": [side, side],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "precision": plan.precision,
        "memory_format": plan.memory_format,
    }
    extractor = NetworkFeatures(made, metadata, device)
    pool = np.random.default_rng(0).integers(0, 256, (256, 3, side, side), np.uint8)
    workers = available_cores()

    def read(index: int) -> np.ndarray:
        return pool[index % len(pool)]

    ratios, rates = [], []
    for turn in range(rounds + 1):
        asked = np.arange(min(count, 512) if turn == 0 else count)  # the first loads the kernels
        began = time.perf_counter()
        rows = sum(len(block) for block in described(extractor, read, asked, workers))
        rate = rows / (time.perf_counter() - began)
        bare = bare_forward(
            network, side, plan, device, batches=max(2, min(count, 12_800) // _AT_ONCE)
        )
        print(f"round {turn}: {rate:,.0f} against {bare:,.0f} images/s", flush=True)
        if turn:
            rates.append(rate)
            ratios.append(rate / bare)
    yield Row(
        f"features of {count:,} pictures of {side} pixels by {network} ({plan}), against its "
        "forward passes alone",
        f"{spread(ratios)}, {statistics.median(rates):,.0f} images/s",
        f"at least {_FEATURES_BAR}x",
        statistics.median(ratios) >= _FEATURES_BAR,
    )


@torch.inference_mode()
def bare_forward(
    name: str, side: int, plan: InferencePlan, device: torch.device, batches: int
) -> float:
    """Return pictures a second of forward passes over batches that lie on the device."""
    layout = MEMORY_FORMATS[plan.memory_format]
    network = made_by_timm(name, side, 0).eval()
    network = network.to(device).to(memory_format=layout)
    images = torch.randn(_AT_ONCE, 3, side, side, device=device).contiguous(memory_format=layout)
    with autocast(device, plan.precision):
        network(images)
        wait_for(device)
        began = time.perf_counter()
        for _ in range(batches):
            network(images)
        wait_for(device)
    return batches * _AT_ONCE / (time.perf_counter() - began)


def finetune(
    device: torch.device,
    folder: Path,
    *,
    network: str = _NETWORK,
    side: int = _SIDE,
    batch: int = 64,
    pictures: int = 3200,
    rounds: int = 2,
    epochs: int = 3,
) -> Iterator[Row]:
    """Time of a fine-tuning's training steps against a plain loop over timm's network.

    Args:
        device: of the training.
        folder: for pictures and runs.
        network: timm's name.
        side: of the pictures in pixels.
        batch, pictures: of a step, and of the training part.
        rounds, epochs: of both, in turns, and of each training.
    """
    file = write_drawn(folder / "drawn.npz", {"train": pictures, "val": 64}, side=side)
    overrides = [
        "data=folder",
        f"data.root={file}",
        f"data.image_size={side}",
        "data.mirror_ok=true",
    ]
    overrides += ["model=timm", f"model.name={network}", "model.pretrained=null", "optimizer=adamw"]
    overrides += [f"data.batch_size={batch}", f"trainer.max_epochs={epochs}", "trainer.ema_decay=0"]
    overrides += [
        "runtime=bfloat16",
        "evaluate_test=false",
        "tracking=none",
        "tracking.figures=false",
    ]
    overrides += ["tracking.log_model=false", f"output_dir={folder / 'outputs'}"]
    overrides += [f"trainer.accelerator={'gpu' if device.type == 'cuda' else 'cpu'}"]
    # Deterministic kernels, the default, are slower; the plain loop has the others.
    free = read_run_settings([*overrides, "trainer.deterministic=false"])
    data = build.build_data(free)
    images = torch.from_numpy(np.array(data.pictures.images)[data.split.train]).to(device)
    ratios, rates, deterministic = [], [], 0.0
    for turn in range(rounds):
        rates.append(statistics.median(images_per_second(free, data)[1:]))
        bare = bare_tuning(network, side, images, batch, epochs)
        ratios.append(bare / rates[-1])
        if turn == 0:
            again = images_per_second(read_run_settings(overrides), data)
            deterministic = bare / statistics.median(again[1:])
        print(f"{rates[-1]:,.0f} against {bare:,.0f} images/s", flush=True)
    yield Row(
        f"fine-tuning {network} at {side} pixels, a step of {batch} in bfloat16, against a plain "
        "timm loop",
        f"{spread(ratios, digits=3)} as long, {statistics.median(rates):,.0f} images/s; with "
        f"trainer.deterministic {deterministic:.3f}x",
        f"at most {_TUNING_BAR}x",
        statistics.median(ratios) <= _TUNING_BAR,
    )


def bare_tuning(name: str, side: int, images: Tensor, batch: int, epochs: int) -> float:
    """Return pictures a second of a plain loop: flips, AdamW, bfloat16 autocast, channels_last.

    Args:
        name: timm's name of the network.
        side: of the pictures in pixels.
        images: (N, 3, side, side) uint8, on the device that trains.
        batch: pictures of a step.
        epochs: the first of which loads the kernels.
    """
    device = images.device
    network = made_by_timm(name, side, 10)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    labels = torch.arange(len(images), device=device) % 10
    steps, seconds = max(1, len(images) // batch), []
    for _ in range(epochs):
        wait_for(device)
        began = time.perf_counter()
        order = torch.randperm(len(images), device=device)
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            flips = torch.rand(len(rows), device=device)[:, None, None, None] < 0.5
            chosen = images.index_select(0, rows)
            pictures = torch.where(flips, chosen.flip(3), chosen).float().div_(127.5).sub_(1)
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            with autocast(device, "bfloat16"):
                loss = nn.functional.cross_entropy(network(pictures).float(), labels[rows])
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        wait_for(device)
        seconds.append(time.perf_counter() - began)
    return steps * min(batch, len(images)) / statistics.median(seconds[1:] or seconds)


def made_by_timm(name: str, side: int, classes: int) -> nn.Module:
    """Return timm's network; a transformer takes one size alone."""
    sized: dict[str, Any] = {"img_size": side} if "vit" in name and side != _SIDE else {}
    network: nn.Module = timm.create_model(name, num_classes=classes, **sized)
    return network
