"""Links: how a network's logits become probabilities, by what it was trained to answer.

"softmax" for one of K classes, "sigmoid" for K labels, each for itself, and "corn" for K ordered
classes by K - 1 conditional questions (see `src.training.losses.Corn`). A served model ships this
file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..machine.arrays import Float32Array

__all__ = ["kept_probabilities", "link_of", "mean_logits", "outputs_of", "probabilities"]


def link_of(metadata: Mapping[str, Any]) -> str:
    """Return the link in the metadata of a network; without one it is softmax."""
    return str(metadata.get("link", "softmax"))


def outputs_of(link: str, num_classes: int) -> int:
    """Return how many logits a network gives."""
    return num_classes - 1 if link == "corn" else num_classes


def probabilities(logits: Tensor, link: str) -> Tensor:
    """Return probabilities (B, K) of logits (B, K), or of K - 1 with the link "corn".

    Raises:
        ValueError: there is no such link.
    """
    if link == "softmax":
        return torch.softmax(logits, dim=1)
    if link == "sigmoid":
        return torch.sigmoid(logits)
    if link == "corn":
        above = F.logsigmoid(logits).cumsum(dim=1).exp()
        whole = F.pad(F.pad(above, (1, 0), value=1.0), (0, 1))
        return whole[:, :-1] - whole[:, 1:]
    raise ValueError(f"the link is {link!r}: it must be softmax, sigmoid or corn")


def kept_probabilities(logits: Tensor, link: str) -> Float32Array:
    """Return `probabilities` as they are kept, (B, K) float32 on the CPU.

    In double precision the rows sum to 1 as closely as float32 allows.
    """
    # On the CPU first: Apple's GPU has no double precision.
    kept: Float32Array = probabilities(logits.cpu().double(), link).float().numpy()
    return kept


def mean_logits(logits: Tensor, link: str) -> Tensor:
    """Return logits (B, M) whose probabilities are the mean of those of views (V, B, M).

    With softmax they are logarithms of probabilities.
    """
    logits = logits.float()
    if link == "softmax":
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
    if link == "sigmoid":
        return _mean_log(F.logsigmoid(logits)) - _mean_log(F.logsigmoid(-logits))
    # Means of the probabilities of being above each class, and the conditional ones again.
    above = _mean_log(F.logsigmoid(logits).cumsum(dim=2))
    before = F.pad(above[:, :-1], (1, 0))
    asked = (above - before).clamp(max=-torch.finfo(above.dtype).eps)
    return asked - torch.log(-torch.expm1(asked))


def _mean_log(logs: Tensor) -> Tensor:
    return logs.logsumexp(dim=0) - math.log(len(logs))
