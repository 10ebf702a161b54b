"""A network with all that happens to pictures before and after it, in one graph."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from src.data.augmentation.transforms import normalize
from src.training.inference import MEMORY_FORMATS, averaged_logits

__all__ = ["CannotExport", "WholeNetwork", "quiet", "traced"]

_TRACED_WITH = 2  # a batch of one would be taken for a constant


class CannotExport(Exception):
    """A network cannot have a variant; the message says why in a few words."""

    def __init__(self, why: BaseException | str) -> None:
        lines = str(why).strip().splitlines() or [type(why).__name__]
        super().__init__(lines[0].strip().rstrip(".:")[:200])


class WholeNetwork(nn.Module):
    """Decoded pictures (B, C, H, W) uint8 to logits (B, K) float32.

    Normalisation and test-time augmentation are inside, as the run predicts, and the arithmetic is
    in single precision: what half precision rounds differs from machine to machine.

    Args:
        network: trained; normalised pictures (B, C, H, W) -> logits (B, K).
        passport: what the run's checkpoints say of it; see `ClassificationTask`.
        memory_format: of the pictures, by the name in the runtime settings; None for the run's own.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, passport: Mapping[str, Any], memory_format: str | None = None
    ) -> None:
        super().__init__()
        settings = passport["settings"]
        self._memory_format = MEMORY_FORMATS[memory_format or settings["runtime"]["memory_format"]]
        self._tta = settings["trainer"]["tta"]
        self.network = copy.deepcopy(network).to("cpu").to(memory_format=self._memory_format)
        self.register_buffer("mean", torch.tensor(passport["mean"]))
        self.register_buffer("std", torch.tensor(passport["std"]))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        pictures = normalize(images, self.mean, self.std)
        pictures = pictures.contiguous(memory_format=self._memory_format)
        return averaged_logits(self.network, pictures, self._tta).float()


def traced(network: WholeNetwork, shape: tuple[int, int, int]) -> torch.export.ExportedProgram:
    """The graph of the network for pictures of `shape` (C, H, W) in batches of any size.

    Raises:
        CannotExport: its code cannot be traced, or only for batches of one size.
    """
    images = torch.zeros(_TRACED_WITH, *shape, dtype=torch.uint8)
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(
                network, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
            )
    except Exception as error:  # tracing has an exception for every kind of code it cannot follow
        raise CannotExport(error) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # where the code lay is nobody's business
    return program


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' advice to their own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
