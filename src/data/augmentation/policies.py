"""Random operations of each picture's own: TrivialAugment and RandAugment, on whole batches.

Müller and Hutter, "TrivialAugment: Tuning-free yet state-of-the-art data augmentation" (ICCV 2021):
one operation a picture, of any strength, from the wide ranges of their appendix. Cubuk et al.,
"RandAugment: Practical automated data augmentation with a reduced search space" (CVPR 2020):
several operations a picture, all of one strength. Both draw from the same 14 operations, each as
likely. A translation is a share of the side here, where the papers count pixels of 224 or of 331.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from math import radians

import torch
from torch import Tensor

from . import affine, photometric
from .transforms import change_chosen_

__all__ = ["OPERATIONS", "Policy", "Step"]

# Operations by their drawn number. Append only: a changed number changes every run.
OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "saturation", "contrast", "sharpness"),
    *("posterize", "solarize", "autocontrast", "equalize"),
)
# Magnitudes are whole numbers from 0 to 30 in both papers.
_LARGEST_MAGNITUDE = 30
_GEOMETRIC = (OPERATIONS.index("shear_x"), OPERATIONS.index("rotate"))
# In the order of `affine.one_of`.
_MOVING = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
# Draws of a step: which operation, how strong, in which direction.
_DRAWS = 3


@dataclass(frozen=True)
class _Ranges:
    """The operations' amounts at full strength."""

    shear: float  # pixels to the side a pixel up or down
    translate: float  # share of the side
    degrees: float
    factor: float  # largest change of brightness, saturation, contrast and sharpness
    bits: int  # the fewest that posterizing keeps


_RANGES = {
    "trivial": _Ranges(shear=0.99, translate=32 / 224, degrees=135, factor=0.99, bits=2),
    "rand": _Ranges(shear=0.3, translate=150 / 331, degrees=30, factor=0.9, bits=4),
}


@dataclass(frozen=True)
class Step:
    """One operation for each picture of a batch."""

    kinds: Tensor  # (B,) int64, places in `OPERATIONS`
    levels: Tensor  # (B,) float32 from 0, nothing, to 1, full strength
    signs: Tensor  # (B,) float32, 1 or -1: the direction of what has one


class Policy:
    """Operations drawn for each picture.

    "trivial" has one of any magnitude, "rand" has `operations` of one `magnitude` from 0 to 30.
    """

    def __init__(self, name: str, operations: int, magnitude: float) -> None:
        self._ranges = _RANGES[name]
        self._steps = operations if name == "rand" else 1
        self._level = magnitude / _LARGEST_MAGNITUDE if name == "rand" else None

    @property
    def streams(self) -> int:
        """The count of numbers that it draws for a picture."""
        return self._steps * _DRAWS

    def steps(self, draws: Tensor) -> list[Step]:
        """Return the operations that numbers (`streams`, B) in [0, 1) stand for, in their order."""
        steps = []
        for kind, level, sign in draws.view(self._steps, _DRAWS, -1):
            if self._level is None:
                levels = (level * (_LARGEST_MAGNITUDE + 1)).floor() / _LARGEST_MAGNITUDE
            else:
                levels = torch.full_like(level, self._level)
            kinds = (kind * len(OPERATIONS)).long()
            steps.append(Step(kinds, levels, torch.where(sign < 0.5, 1.0, -1.0)))
        return steps

    def geometry(self, steps: Sequence[Step], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return how the steps move the pictures, and whether they move each at all, (B,) bool.

        The maps are (B, 2, 3) float32, from output to source as in `src.data.augmentation.affine`.
        """
        maps = [self._map(step, height, width) for step in steps]
        first, last = _GEOMETRIC
        moved = [(step.kinds >= first) & (step.kinds <= last) for step in steps]
        return reduce(affine.compose, maps), reduce(torch.logical_or, moved)

    def _map(self, step: Step, height: int, width: int) -> Tensor:
        most = _most_moved(self._ranges, height, width, step.kinds.device)
        amounts = most.index_select(1, step.kinds) * (step.levels * step.signs)
        # Shifts are of whole pixels.
        return affine.one_of(amounts[4], amounts[:2], amounts[2:4].trunc(), height, width)

    def recolor_(self, images: Tensor, steps: Sequence[Step]) -> None:
        """Change colours and tones of images (B, C, H, W), in place, as the steps say."""
        for step in steps:
            for name, change in self._changes(images, step).items():
                change_chosen_(images, step.kinds == OPERATIONS.index(name), change)

    def _changes(self, images: Tensor, step: Step) -> dict[str, Callable[[Tensor | slice], Tensor]]:
        factor = 1 + step.signs * step.levels * self._ranges.factor
        bits = 8 - (step.levels * (8 - self._ranges.bits)).round().long()
        threshold = 255 * (1 - step.levels)
        return {
            "brightness": lambda rows: photometric.brightness(images[rows], factor[rows]),
            "saturation": lambda rows: photometric.saturation(images[rows], factor[rows]),
            "contrast": lambda rows: photometric.contrast(images[rows], factor[rows]),
            "sharpness": lambda rows: photometric.sharpness(images[rows], factor[rows]),
            "posterize": lambda rows: photometric.posterize(images[rows], bits[rows]),
            "solarize": lambda rows: photometric.solarize(images[rows], threshold[rows]),
            "autocontrast": lambda rows: photometric.autocontrast(images[rows]),
            "equalize": lambda rows: photometric.equalize(images[rows]),
        }


@lru_cache(maxsize=32)
def _most_moved(ranges: _Ranges, height: int, width: int, device: torch.device) -> Tensor:
    """Return (moving operations, operations) float32: what each moves at full strength, or 0."""
    most = (ranges.shear, ranges.shear, ranges.translate * width, ranges.translate * height)
    table = torch.zeros(len(_MOVING), len(OPERATIONS))
    for row, (operation, amount) in enumerate(zip(_MOVING, (*most, radians(ranges.degrees)))):
        table[row, OPERATIONS.index(operation)] = amount
    return table.to(device)
