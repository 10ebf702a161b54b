"""The order of the pictures: a function of (seed, epoch), not of devices or interruptions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.data.randomness import permutation

__all__ = ["BatchOrder"]


class BatchOrder:
    """Which pictures make up which batch.

    Training: full batches in random order; what is left over waits for another epoch.
    A set smaller than one batch makes one short batch. Evaluation: every picture once, in order,
    in batches whose sizes differ by at most one, so that none is nearly empty.

    Several devices share each batch: rank r gets the r-th part of a global batch of
    `batch_size * world_size`, so W devices see together what one with W times the batch sees.

    Args:
        indices: (n,) int64, the pictures to go through.
        batch_size: pictures a batch on each device, at least 1.
        training: see above.
        seed: seed of the random order.
        rank: this device, from 0.
        world_size: number of devices.

    Raises:
        ValueError: an argument is out of its range, or there are fewer pictures than devices.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
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

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[tuple[int, Tensor]]:
        """Yield (step, (B,) int64 indices) from `first_step` to the end of the epoch."""
        order = self._indices
        if self._training:
            order = order[permutation(len(order), self._seed, epoch)]
        for step in range(first_step, self._steps):
            start, end = (self._used * s // self._steps for s in (step, step + 1))
            mine, others = (
                start + (end - start) * r // self._world_size for r in (self._rank, self._rank + 1)
            )
            yield step, order[mine:others]
