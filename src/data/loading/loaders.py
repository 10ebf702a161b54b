"""Batches of pictures: their order, and how they are gathered by index or read by workers.

The order is a function of (seed, epoch), not of devices or interruptions. A batch is untouched:
augmentation and normalisation happen on the training device.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...machine.arrays import Int64Array, IntegerArray, UInt8Array
from ...machine.parallel import follow_parent
from ...records.pictures import Pixels
from ...targets.labels import IGNORED
from ..decoding.mask_files import LEFT_OUT
from ..decoding.picture_store import PictureLost
from ..randomness import permutation

__all__ = ["Batch", "BatchLoader", "BatchOrder", "StreamLoader"]

# Batches that each worker reads ahead.
_PREFETCH = 2
# Picture number i as (C, H, W).
PictureReader = Callable[[int], Pixels]
# The mask of picture number i, (H, W).
MaskReader = Callable[[int], UInt8Array]
# Those of an epoch by their numbers, (B, C, H, W), and their masks (B, H, W).
PieceReader = Callable[[int, Int64Array], tuple[Pixels, UInt8Array]]


class Batch(NamedTuple):
    """One batch; Lightning moves its tensors to the device."""

    images: Tensor  # (B, C, H, W), uint8 or float32, from 0 to 255, contiguous
    # (B,) int64, or of label sets (B, K), 0 and 1, or of pixels (B, H, W), `IGNORED` where left out
    targets: Tensor
    sample_ids: Tensor  # (B,) int64, each picture's place in the array it comes from
    step: int  # its place in its epoch, from 0


class BatchOrder:
    """The pictures of each batch of an epoch.

    Training: full batches in random order; what is left over waits for another epoch.
    A set smaller than one batch makes one short batch. Evaluation: every picture once, in order,
    in batches whose sizes differ by at most one. Of several devices, rank r gets the r-th part of
    each global batch of `batch_size * world_size`.

    Args:
        indices: (n,) int64, the pictures to go through.
        batch_size: pictures a batch on each device, at least 1.
        training: see above.
        seed: of the random order.
        rank, world_size: this device, from 0, and the number of devices.

    Raises:
        ValueError: an argument is out of its range, or there are fewer pictures than devices.
    """

    def __init__(
        self,
        indices: Int64Array,
        *,
        batch_size: int,
        training: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: it must be at least 1.")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}: it must be from 0 to {world_size - 1}.")
        if len(indices) < world_size:
            raise ValueError(f"there are {len(indices)} pictures for {world_size} devices.")
        self._indices = torch.from_numpy(np.array(indices, dtype=np.int64))
        self._training = training
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        n, batch = len(indices), batch_size * world_size
        if training:
            self._steps = max(n // batch, 1)
            self._used = min(self._steps * batch, n - n % world_size)
        else:
            # No more steps than leave each device a picture in each of them.
            self._steps = min(-(-n // batch), n // world_size)
            self._used = n

    def __len__(self) -> int:
        """Batches an epoch."""
        return self._steps

    def batches(
        self, epoch: int, first_step: int = 0, device: torch.device | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (step, (B,) int64 indices) from `first_step` to the end of the epoch.

        The indices of the whole epoch go to `device` (None for the CPU) at once: a copy a step
        would wait for the device in every step.
        """
        order = self._indices
        if self._training:
            order = order[permutation(len(order), self._seed, epoch)]
        if device is not None:
            order = order.to(device, non_blocking=True)
        for step in range(first_step, self._steps):
            start, end = (self._used * s // self._steps for s in (step, step + 1))
            mine, others = (
                start + (end - start) * r // self._world_size for r in (self._rank, self._rank + 1)
            )
            yield step, order[mine:others]


class _Loader(ABC):
    """A pass over an order, which a checkpoint can keep and take up again.

    Lightning calls `sampler.set_epoch` at the start of an epoch. `EpochKeeper` calls `state_dict`
    when it saves, and `load_state_dict` when it resumes.
    """

    batch_sampler: None = None  # which Lightning reads where there is a `sampler`

    def __init__(self, order: BatchOrder) -> None:
        self.order = order
        self.epoch = 0
        self._first_step = 0
        self._steps_done = 0

    @abstractmethod
    def _batches(self, first_step: int) -> Iterable[Batch]: ...

    @property
    def sampler(self) -> _Loader:
        """The object whose `set_epoch` Lightning calls."""
        return self

    def __len__(self) -> int:
        """Batches in a whole epoch, wherever this pass starts."""
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        """Return one pass over the epoch, which is read at the first batch.

        Lightning makes the iterator of its first epoch before it sets the epoch.
        """
        first_step, self._first_step = self._first_step, 0
        for batch in self._batches(first_step):
            self._steps_done = batch.step + 1
            yield batch

    def set_epoch(self, epoch: int, first_step: int | None = None) -> None:
        """Set the next pass: its epoch and first step (0, or that of `load_state_dict`)."""
        if first_step is None:
            first_step = self._first_step if epoch == self.epoch else 0
        self.epoch = epoch
        self._first_step = self._steps_done = first_step

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and the step that comes next in it; 0 after its end."""
        return {"epoch": self.epoch, "step": self._steps_done % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Set the next pass to go on from there."""
        self.set_epoch(state["epoch"], state["step"])


class BatchLoader(_Loader):
    """Batches out of one array, each by a single gather.

    Args:
        images: (N, C, H, W), in memory or memory-mapped; nothing else is copied. A tensor on
            a GPU is gathered there, and batches come out there.
        targets: (N,) int64, (N, K), or masks (N, H, W) uint8, which are gathered as the pictures.
        order: which pictures, and when.
    """

    def __init__(self, images: Pixels | Tensor, targets: IntegerArray, order: BatchOrder) -> None:
        super().__init__(order)
        self._images = images
        self._device = images.device if isinstance(images, Tensor) else torch.device("cpu")
        self._of_pixels = targets.ndim == 3
        # Masks stay bytes until they are a batch, and on the CPU in the file that they are in.
        self._masks = targets if self._of_pixels and self._device.type == "cpu" else None
        labels = targets if self._masks is None else targets[:0]
        dtype = np.uint8 if self._of_pixels else np.int64
        self._labels = torch.from_numpy(np.array(labels, dtype)).to(self._device)

    def _batches(self, first_step: int) -> Iterator[Batch]:
        for step, ids in self.order.batches(self.epoch, first_step, self._device):
            if isinstance(self._images, Tensor):
                images = self._images.index_select(0, ids)
            else:
                # NumPy copies in this thread alone: as fast, and it waits for no other.
                images = torch.from_numpy(self._images.take(ids.numpy(), axis=0))
            if self._masks is None:
                targets = self._labels[ids]
            else:
                targets = torch.from_numpy(self._masks.take(ids.numpy(), axis=0))
            targets = _pixel_targets(targets) if self._of_pixels else targets
            yield Batch(images, targets, ids, step)


class StreamLoader(_Loader):
    """Batches of pictures that are read one by one, by workers, ahead of their use.

    Memory stays flat: no more than two batches a worker exist at any time.

    Args:
        read: picture number i as (C, H, W), or without targets pieces of pictures with their masks;
            it goes to the workers, so it must be picklable where processes are not forked.
        targets: (N,) int64 or (N, K); or reads the mask of picture number i, (H, W) uint8.
        order: which pictures, and when.
        workers: processes that read; 0 reads in this one.
    """

    def __init__(
        self,
        read: PictureReader | PieceReader,
        targets: IntegerArray | MaskReader | None,
        order: BatchOrder,
        *,
        workers: int,
    ) -> None:
        super().__init__(order)
        self._pass = _Pass(order)
        self._loader = DataLoader(
            _ReadBatches(read, targets),
            sampler=self._pass,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=_PREFETCH if workers > 0 else None,
            worker_init_fn=_leave_signals_to_parent,
        )

    def close(self) -> None:
        """End the workers, which stay between passes; another pass starts new ones."""
        self._loader._iterator = None

    def _batches(self, first_step: int) -> Iterable[Batch]:
        self._pass.epoch, self._pass.first_step = self.epoch, first_step
        for batch in self._loader:
            if isinstance(batch, PictureLost):
                raise batch
            # What a worker sends keeps a file open as long as it lives, and labels may be kept.
            images, targets, ids, step = batch
            yield Batch(
                images, targets if targets.ndim == 3 else targets.clone(), ids.clone(), step
            )


def _leave_signals_to_parent(_: int) -> None:
    """Keep signals to a whole process group from a worker, and end it with its parent.

    A closed terminal and `timeout` signal the group: the worker would end at once, and with it the
    batch after which the run is to be saved.
    """
    if hasattr(os, "setpgrp"):  # not on Windows
        os.setpgrp()
    follow_parent()


class _Pass:
    """The sampler of a DataLoader with persistent workers, which is iterated anew every epoch."""

    def __init__(self, order: BatchOrder) -> None:
        self._order = order
        self.epoch = self.first_step = 0

    def __iter__(self) -> Iterator[tuple[int, int, Int64Array]]:
        for step, ids in self._order.batches(self.epoch, self.first_step):
            # As an array: a slice of a tensor would go to the worker with all of its storage.
            yield self.epoch, step, ids.numpy()

    def __len__(self) -> int:
        return len(self._order) - self.first_step


class _ReadBatches(Dataset["Batch | PictureLost"]):
    """A data set whose items are whole batches, so that a worker sends one tensor of each.

    An item is the error where a picture was lost: raised in a worker, its message would be the
    traceback.
    """

    def __init__(
        self,
        read: PictureReader | PieceReader,
        targets: IntegerArray | MaskReader | None,
    ) -> None:
        self._read: Any = read
        self._targets = targets
        if isinstance(targets, np.ndarray):
            self._targets = np.array(targets, np.int64)

    def __getitem__(self, item: tuple[int, int, Int64Array]) -> Batch | PictureLost:
        try:
            return self._batch(*item)
        except PictureLost as lost:
            return lost

    def _batch(self, epoch: int, step: int, numbers: Int64Array) -> Batch:
        if self._targets is None:
            images, targets = self._read(epoch, numbers)
        else:
            images = np.stack([self._read(index) for index in numbers.tolist()])
            if isinstance(self._targets, np.ndarray):
                targets = self._targets[numbers]
            else:
                targets = np.stack([self._targets(index) for index in numbers.tolist()])
        found = torch.from_numpy(targets)
        if found.dtype == torch.uint8:  # masks
            found = _pixel_targets(found)
        return Batch(torch.from_numpy(images), found, torch.from_numpy(numbers), step)


def _pixel_targets(masks: Tensor) -> Tensor:
    """Return the classes (B, H, W) of masks as int64, with `IGNORED` for what is left out."""
    targets = masks.long()
    return targets.masked_fill_(targets == LEFT_OUT, IGNORED)
