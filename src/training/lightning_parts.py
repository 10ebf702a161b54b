"""What Lightning's trainer is given beside the task and its keeper: batches, and files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ..data.loading.loaders import Batch, StreamLoader
from ..data.loading.picture_data import PictureData
from .checkpoints import read_checkpoint, write_checkpoint

__all__ = ["AtomicCheckpointIO", "FitBatches"]


class FitBatches(pl.LightningDataModule):
    """The batches of a fit, which Lightning asks for once each process knows its share of them."""

    def __init__(self, data: PictureData) -> None:
        super().__init__()
        self._data = data
        self._streams: list[StreamLoader] = []

    def train_dataloader(self) -> Iterable[Batch]:
        return self._kept(self._data.batches("train", training=True, sharded=True))

    def val_dataloader(self) -> Iterable[Batch]:
        return self._kept(self._data.batches("val", sharded=True))

    def teardown(self, stage: str) -> None:
        """End the workers of the fit: each holds memory that what follows can use."""
        while self._streams:
            self._streams.pop().close()

    def _kept(self, loader: Iterable[Batch]) -> Iterable[Batch]:
        if isinstance(loader, StreamLoader):
            self._streams.append(loader)
        return loader


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint only after the new one is complete on the disk.

    Lightning's own goes through $TMPDIR and a move across file systems, which on a full disk
    destroys the checkpoint that was there.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location)
