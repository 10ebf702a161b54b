"""Predictions of a trained network over batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from src.training.tta import averaged_logits

if TYPE_CHECKING:  # a served model has neither Lightning nor the loaders
    from torch import nn

    from src.data.loading.loaders import Batch
    from src.training.task import ClassificationTask

__all__ = ["AUTOCAST", "MEMORY_FORMATS", "autocast", "predict", "require_finite"]

# What `runtime.precision` means to torch's autocast; float32 needs none.
AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What `runtime.memory_format` means.
MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Arithmetic in `precision` ("float32", "bfloat16", "float16"), as in training."""
    dtype = AUTOCAST[precision]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        yield


def require_finite(network: nn.Module) -> None:
    """Refuse a network that cannot answer with numbers.

    Raises:
        ValueError: a parameter or a running statistic is NaN or infinite, or another buffer NaN (a
            mask may be infinite).
    """
    parameters = dict(network.named_parameters())
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        counted = name in parameters or name.endswith(("running_mean", "running_var"))
        if tensor.isnan().any() or (counted and tensor.isinf().any()):
            raise ValueError(f"its weights are damaged: {name} holds what is no number")


def predict(
    task: ClassificationTask,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    precision: str = "float32",
    tta: str = "none",
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Class probabilities of every picture.

    Args:
        task: on `device`.
        batches: what to predict.
        device: where to compute.
        precision: see `autocast`.
        tta: test-time augmentation, see `src.training.tta`.

    Returns:
        probabilities (N, K) float32, targets (N,) int64, sample ids (N,) int64.
    """
    probs, targets, ids = [], [], []
    was_training = task.training
    task.eval()
    try:
        with torch.inference_mode(), autocast(device, precision):
            for batch in batches:
                images = task.normalized(batch.images.to(device, non_blocking=True))
                logits = averaged_logits(task.evaluated, images, tta)
                # In double precision the rows sum to 1 as closely as float32 can say it.
                probs.append(torch.softmax(logits.double().cpu(), dim=1).float())
                targets.append(batch.targets.cpu())
                ids.append(batch.sample_ids.cpu())
    finally:
        task.train(was_training)
    return torch.cat(probs).numpy(), torch.cat(targets).numpy(), torch.cat(ids).numpy()
