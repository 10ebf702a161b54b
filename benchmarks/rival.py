"""The usual way: Lightning, a DataLoader, transforms of each sample, and Lightning's MLflow logger.

The network and the settings are those of the well-known Lightning-Hydra templates' example: an MLP
784-64-128-64-10 with batch norm (67,978 parameters), batches of 128, Adam.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import MLFlowLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms

__all__ = ["epoch_seconds", "network"]

BATCH_SIZE = 128


class _Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision's MNIST classes read: an array row to a PIL picture to a tensor."""

    def __init__(self, images: NDArray[np.uint8], targets: NDArray[np.int64]) -> None:
        self.images, self.targets = images, targets
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index, 0], mode=None)
        return self.transform(picture), int(self.targets[index])


def network() -> nn.Sequential:
    """The MLP of the comparison."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in ((784, 64), (64, 128), (128, 64)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


class _Task(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.accuracies = nn.ModuleDict(
            {part: MulticlassAccuracy(10, average="micro") for part in ("train_", "val_")}
        )
        self.losses = nn.ModuleDict({part: MeanMetric() for part in ("train_", "val_")})

    def _step(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        images, targets = batch
        logits = self.net(images)
        loss = nn.functional.cross_entropy(logits, targets)
        accuracy, mean = self.accuracies[f"{part}_"], self.losses[f"{part}_"]
        accuracy(logits.argmax(1), targets)
        mean(loss)
        for name, metric in (("loss", mean), ("acc", accuracy)):
            self.log(f"{part}/{name}", metric, on_step=False, on_epoch=True, prog_bar=True)  # type: ignore[arg-type]
        return loss

    def training_step(self, batch: Any, _: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: Any, _: int) -> None:
        self._step(batch, "val")

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class _Clock(Callback):
    """The moments at which epochs end, validation included."""

    def __init__(self) -> None:
        self.moments = [time.perf_counter()]

    def on_train_epoch_end(self, *_: Any) -> None:
        self.moments.append(time.perf_counter())


def epoch_seconds(
    parts: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    folder: Path,
    *,
    epochs: int,
    workers: int,
) -> list[float]:
    """Seconds of each epoch but the first.

    Args:
        parts: "train" and "val": images (N, 1, 28, 28) uint8 and targets (N,).
        folder: for the tracking database and checkpoints.
        epochs: at least 2.
        workers: of the DataLoader.
    """
    loaders = {
        part: DataLoader(
            _Pictures(images, targets),
            batch_size=BATCH_SIZE,
            shuffle=part == "train",
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for part, (images, targets) in parts.items()
    }
    clock = _Clock()
    logger = MLFlowLogger("rival", tracking_uri=f"sqlite:///{folder}/rival.db")
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=logger,
        callbacks=[clock, ModelCheckpoint(folder, monitor="val/acc", mode="max", save_last=True)],
        default_root_dir=folder,
        enable_model_summary=False,
    )
    trainer.fit(_Task(), loaders["train"], loaders["val"])
    return [end - start for start, end in zip(clock.moments[1:], clock.moments[2:])]
