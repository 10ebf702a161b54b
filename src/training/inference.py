"""Predictions of a trained network: arithmetic, test-time augmentation, probabilities.

A served model ships this file, so it imports neither Lightning nor the loaders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..machine.arrays import Float32Array, Int64Array
from ..models.arithmetic import autocast
from .links import kept_probabilities, link_of, mean_logits

if TYPE_CHECKING:
    from ..data.loading.loaders import Batch
    from .task import ClassificationTask

__all__ = [
    "VIEWS",
    "averaged_logits",
    "evaluating",
    "in_pieces",
    "memory_formats",
    "on_host",
    "predict",
    "require_finite",
    "views",
]

# The kinds of test-time augmentation.
VIEWS = ("none", "flip", "shift", "flip_shift")
# A shift of one pixel per this many pixels of the shorter side, as in Jordan (2024), who moves
# pictures of 32 x 32 by one pixel towards two opposite corners.
_PIXELS_PER_SHIFT = 32
# Pixels of the pictures that a core of a CPU takes at once, see `in_pieces`.
_PIXELS_A_CORE = 2**18
# Bytes of answers that stay on a device, about.
_HELD_BYTES = 2**26


def memory_formats(network: nn.Module) -> list[str]:
    """Return the memory formats worth trying; without convolutions they make no difference."""
    convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
    return ["channels_last", "contiguous"] if convolves else ["contiguous"]


def require_finite(network: nn.Module) -> None:
    """Raise a ValueError for a network whose outputs cannot be finite.

    A parameter or a running statistic is NaN or infinite, or another buffer NaN (a mask may be
    infinite).
    """
    parameters = dict(network.named_parameters())
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        counted = name in parameters or name.endswith(("running_mean", "running_var"))
        if tensor.isnan().any() or (counted and tensor.isinf().any()):
            raise ValueError(f"its weights are damaged: {name} holds what is no number")


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and afterwards every module back into its own mode."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def predict(
    task: ClassificationTask,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    precision: str = "float32",
    tta: str = "none",
) -> tuple[Float32Array, Int64Array, Int64Array]:
    """Compute probabilities (N, K) float32, targets, and sample ids (N,) int64 of all batches.

    Args:
        task: on `device`; the modes of its modules are kept.
        precision: see `autocast`.
        tta: test-time augmentation, see `views`.
    """
    link = link_of(task.metadata)

    def logits_of(images: Tensor) -> Tensor:
        return averaged_logits(task.evaluated, task.normalized(images), tta, link)

    def answered(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        logits = in_pieces(logits_of, batch.images.to(device))
        return logits, batch.targets, batch.sample_ids

    with evaluating(task), torch.inference_mode(), autocast(device, precision):
        found = [
            (kept_probabilities(logits, link), targets.numpy(), ids.numpy())
            for logits, targets, ids in on_host(map(answered, batches))
        ]
    probs, targets, ids = (np.concatenate(one) for one in zip(*found, strict=True))
    return probs, targets, ids


def in_pieces(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return a network's outputs for pictures (B, C, H, W), computed on a CPU for some at a time.

    What the layers give for many pictures leaves the caches of a CPU, and is waited for. A GPU gets
    all of them, for it needs many to be busy.

    Args:
        network: (N, C, H, W) -> (N, ...), in eval mode.
    """
    if images.device.type != "cpu":
        return network(images)
    pixels = images.shape[-2] * images.shape[-1]
    count = max(1, _PIXELS_A_CORE * torch.get_num_threads() // pixels)
    found = [network(piece) for piece in images.split(count)]
    return found[0] if len(found) == 1 else torch.cat(found)


def on_host(batches: Iterator[tuple[Tensor, ...]]) -> Iterator[tuple[Tensor, ...]]:
    """Yield the tensors of batches on the CPU, and wait for a device once in many batches.

    To fetch what a device has computed waits for all that it was asked for, and leaves it without
    work meanwhile. Further batches are asked for until they hold 64 MB.
    """
    while True:
        held: list[tuple[Tensor, ...]] = []
        room = _HELD_BYTES
        while room > 0 and (tensors := next(batches, None)) is not None:
            held.append(tensors)
            room -= sum(one.nbytes for one in tensors)
        if not held:
            return
        for tensors in held:
            yield tuple(one.cpu() for one in tensors)


def views(images: Tensor, kind: str) -> Iterator[Tensor]:
    """Yield the views of a batch for test-time augmentation, the unchanged pictures first.

    Args:
        images: (B, C, H, W) float.
        kind: "none" (1 view); "flip" (2, where left and right mean nothing: not for digits or
            text); "shift" (3: towards the upper left and the lower right by 1/32 of the shorter
            side, at least a pixel, the border pixels repeated); "flip_shift" (6, every pair).

    Raises:
        ValueError: another kind.
    """
    if kind not in VIEWS:
        raise ValueError(f"views are {kind!r}: one of {', '.join(VIEWS)} is needed.")
    for seen in (images, images.flip(-1)) if "flip" in kind else (images,):
        yield seen
        if "shift" in kind:
            yield from _shifted(seen)


def averaged_logits(
    network: Callable[[Tensor], Tensor], images: Tensor, kind: str, link: str = "softmax"
) -> Tensor:
    """Compute logits (B, K) float whose probabilities are the mean of those of the views.

    With kind "none" they are the network's own. One view runs at a time, so memory does not grow.
    Logits of pixels (B, K, H, W) are mirrored back.

    Args:
        network: pictures (B, C, H, W) -> logits (B, K) or (B, K, H, W), in evaluation mode.
        images: (B, C, H, W) float, normalised for the network.
        kind: see `views`, whose errors it raises; of pixels "none" or "flip".
        link: see `src.training.links`.
    """
    if kind == "none":
        return network(images)
    logits = [network(view) for view in views(images, kind)]
    if logits[0].ndim == 4:
        if kind != "flip":
            raise ValueError(f"views are {kind!r}: the logits of pixels are averaged over flips.")
        logits[1] = logits[1].flip(-1)
    return mean_logits(torch.stack(logits), link)


def _shifted(images: Tensor) -> Iterator[Tensor]:
    height, width = images.shape[-2:]
    step = max(1, round(min(height, width) / _PIXELS_PER_SHIFT))
    padded = F.pad(images, (step, step, step, step), mode="replicate")
    for offset in (2 * step, 0):
        yield padded[..., offset : offset + height, offset : offset + width]
