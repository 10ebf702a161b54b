"""Random changes to training pictures, on whole batches and on the batch's own device.

What happens to a picture is a function of (seed, epoch, sample id): not of the batch it sits in,
nor of what was drawn before. Only mixing (mixup, cutmix) looks at the neighbours; it is a function
of (seed, epoch, step) and the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...config.augment import AugmentSettings
from ...targets.labels import IGNORED
from ..randomness import derive_seed, uniforms
from . import affine, transforms
from .policies import Policy, Step

__all__ = ["Augment", "Operation"]

# Numbers of the random streams of a sample. Append only: a changed number changes every run.
_FLIP, _DOWN, _RIGHT = 0, 1, 2
_WARPED, _ANGLE, _ZOOM = 3, 4, 5
_COLORED, _BRIGHTNESS, _CONTRAST, _SATURATION = 6, 7, 8, 9
_ERASED, _AREA, _ASPECT, _TOP, _LEFT = 10, 11, 12, 13, 14
_CROPPED, _CROP_AREA, _CROP_RATIO, _CROP_TOP, _CROP_LEFT = 15, 16, 17, 18, 19
# A policy's own come after these, as many as it has.
_STREAMS = 20
# Makes the draws of a step independent of those of a sample.
_MIX_KEY = 0x6D6978
# Erased rectangles are at most this many times as high as wide, or as wide as high.
_MAX_ASPECT = 10 / 3


class Operation(Protocol):
    """A change of pictures that a plugin brings.

    Attributes:
        streams: uniform draws that it needs for a picture.
    """

    @property
    def streams(self) -> int: ...

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return the changed pictures, 0 to 255, uint8 or float32, of the same shape.

        Args:
            images: (B, C, H, W), 0 to 255, uint8 or float32.
            draws: (streams, B) float32 in [0, 1), each picture's own.
        """


class Augment:
    """Augment a batch: turn, move, crop, flip, warp, apply a policy, change colours, erase, mix.

    Cropping, turning, zooming and what a policy moves are one interpolation together. What a turn
    brings in from outside the crop is the picture around it, as far as there is any. Crops are
    those of Szegedy et al. ("Going deeper with convolutions", CVPR 2015).

    Args:
        settings: what is done, how often and how strongly.
        flip_ok: whether a mirrored picture of these data keeps its class; decides where
            `settings.flip` is None.
        num_classes: K; needed for mixing alone.
        further: operations of plugins, done one after another before pictures are mixed.

    Raises:
        ValueError: pictures are to be mixed without classes.
    """

    def __init__(
        self,
        settings: AugmentSettings,
        *,
        flip_ok: bool = False,
        num_classes: int = 0,
        further: Sequence[Operation] = (),
    ) -> None:
        self.settings = settings
        self.flip = flip_ok if settings.flip is None else settings.flip
        self.policy: Policy | None = None
        if settings.policy != "none":
            self.policy = Policy(
                settings.policy, settings.policy_operations, settings.policy_magnitude
            )
        turned = settings.rotate_degrees or settings.zoom
        self.warp_probability = settings.warp_probability if turned else 0.0
        coloured = settings.brightness or settings.contrast or settings.saturation
        self.color_probability = settings.color_probability if coloured else 0.0
        mixed = settings.mixup_alpha or settings.cutmix_alpha
        self.mix_probability = settings.mix_probability if mixed else 0.0
        self.num_classes = num_classes
        self.further = tuple(further)
        if self.soft_targets and num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}: mixing needs at least 2.")

    @property
    def soft_targets(self) -> bool:
        """Whether targets come out as (B, K) distributions."""
        return self.mix_probability > 0

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        sample_ids: Tensor,
        *,
        seed: int,
        epoch: int,
        step: int,
    ) -> tuple[Tensor, Tensor]:
        """Augment one batch.

        Args:
            images: (B, C, H, W), uint8 or float32, 0 to 255.
            targets: (B,) int64, of label sets (B, K) int64, 0 and 1, or of pixels (B, H, W) int64
                from 0 to 254, or `IGNORED`.
            sample_ids: (B,) int64, the same for a picture in every epoch.
            seed, epoch, step: of the run, and the batch's place in it, both from 0.

        Returns:
            images (B, C, H, W), 0 to 255: float32 where they were so, coloured or blended, or
            turned without a crop or a policy, else uint8; and targets, (B,) int64 or, with
            `soft_targets`, (B, K) float32. Those of pixels move as the picture does, each new place
            taking the class of the nearest pixel, or `IGNORED` from outside with zero padding.

        Raises:
            ValueError: pictures with classes of pixels are to be mixed.
        """
        policy_streams = self.policy.streams if self.policy else 0
        own = _STREAMS + policy_streams
        count = own + sum(operation.streams for operation in self.further) + 1  # for turns
        alternate = self.settings.alternate_flip
        draws = uniforms(seed, epoch, sample_ids, count, still=_FLIP + 1 if alternate else 0)
        if alternate and epoch % 2:  # below one half in either the even or the odd epochs
            draws[_FLIP].add_(0.5).remainder_(1)
        steps = self.policy.steps(draws[_STREAMS:own]) if self.policy else []
        images = self._transformed(self._turned(images, draws[-1]), draws, steps)
        if targets.ndim == 3:
            if self.soft_targets:
                raise ValueError("pictures with a class for every pixel are not mixed")
            # One more, so that what comes in from outside, 0, is a class of its own.
            numbers = (targets + 1).clamp_(min=0).to(torch.uint8)[:, None]
            numbers = self._turned(numbers, draws[-1])
            moved = self._transformed(numbers, draws, steps, "nearest")[:, 0].long()
            targets = torch.where(moved > 0, moved - 1, IGNORED)
        if self.policy:
            self.policy.recolor_(images, steps)
        if self.color_probability:
            images = self._colored(images, draws)
        if self.settings.erase_probability:
            images = self._erased(images, draws)
        for operation in self.further:
            images = operation(images, draws[own : own + operation.streams])
            own += operation.streams
        if self.soft_targets:
            return self._mixed(images, targets, derive_seed(seed, epoch, step, _MIX_KEY))
        return images, targets

    def _turned(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return the pictures turned by right angles, as `settings.turns` has it; draws (B,)."""
        turns = self.settings.turns
        if turns == "none":
            return images
        halves = draws < 0.5
        if turns == "half":
            return transforms.turn(images, None, halves)
        return transforms.turn(images, (4 * draws).long() % 2 > 0, halves)

    def _transformed(
        self, images: Tensor, draws: Tensor, steps: Sequence[Step], method: str = "bilinear"
    ) -> Tensor:
        """Return the pictures after all that moves pixels."""
        if self.settings.crop_probability or steps:
            return self._placed(images, draws, steps, method)
        images = self._moved(images, draws, draws[_FLIP] < 0.5 if self.flip else None)
        if not self.warp_probability:
            return images
        to_source = self._warps(draws, *images.shape[2:])
        padding = self.settings.padding
        return transforms.resample(images, to_source, padding=padding, method=method)

    def _moved(self, images: Tensor, draws: Tensor, flips: Tensor | None) -> Tensor:
        # The small number takes back what 0.29 * 100 loses as a binary fraction.
        height, width = (int(self.settings.translate * side + 1e-9) for side in images.shape[2:])
        if height or width:
            most = height, width
            down, right = _whole(draws[_DOWN : _RIGHT + 1], most)
            return transforms.translate(
                images, down, right, most=most, flips=flips, padding=self.settings.padding
            )
        if flips is None:
            return images
        return torch.where(flips[:, None, None, None], images.flip(3), images)

    def _warps(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Return the maps of drawn turns; of pictures that are not chosen, they change nothing."""
        chosen = draws[_WARPED] < self.warp_probability
        angle = _signed(draws[_ANGLE]) * math.radians(self.settings.rotate_degrees)
        # Drawn evenly on the scale of ratios: twice as large is as likely as half as large.
        zoom = torch.exp(_signed(draws[_ZOOM]) * math.log1p(self.settings.zoom))
        angle = torch.where(chosen, angle, torch.zeros_like(angle))
        zoom = torch.where(chosen, zoom, torch.ones_like(zoom))
        return affine.turn(angle, zoom, height, width)

    def _placed(self, images: Tensor, draws: Tensor, steps: Sequence[Step], method: str) -> Tensor:
        """Move pixels, each picture in one interpolation; a new tensor of the same dtype."""
        images = self._moved(images, draws, None)
        flips = draws[_FLIP] < (0.5 if self.flip else 0.0)
        boxes = self._boxes(draws, *images.shape[2:])
        if not self.warp_probability and not steps:
            return transforms.crop(images, boxes, flips=flips, method=method)
        # Maps to the source, (B, 2, 3), and whether each is more than a crop.
        sides = images.shape[2:]
        maps = [affine.crop(boxes, *sides, flips=flips)]
        oblique = draws[_WARPED] < self.warp_probability
        if self.warp_probability:
            maps.append(self._warps(draws, *sides))
        if self.policy:
            motion, moved = self.policy.geometry(steps, *sides)
            maps.append(motion)
            oblique = oblique | moved
        to_source = reduce(affine.compose, maps)

        def cropped(rows: Tensor | slice) -> Tensor:
            return transforms.crop(images[rows], boxes[:, rows], flips=flips[rows], method=method)

        def sampled(rows: Tensor | slice) -> Tensor:
            floats = transforms.resample(
                images[rows], to_source[rows], padding=self.settings.padding, method=method
            )
            return floats if images.is_floating_point() else floats.round_().to(images.dtype)

        placed = torch.empty_like(images)
        transforms.change_chosen_(placed, ~oblique, cropped)
        transforms.change_chosen_(placed, oblique, sampled)
        return placed

    def _boxes(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Top, left, height and width, (4, B) int64 pixels: of the whole where none is cropped."""
        smallest, largest = self.settings.crop_scale
        area = smallest + (largest - smallest) * draws[_CROP_AREA]
        area.masked_fill_(draws[_CROPPED] >= self.settings.crop_probability, 1.0)
        # A box fits if its ratio is between its area and one over it. The paper draws area and
        # ratio again where one does not, which makes large boxes rarer than small ones.
        least = area.log()
        widest = -least
        low, high = (
            torch.maximum(widest.clamp(max=math.log(ratio)), least)
            for ratio in self.settings.crop_ratio
        )
        ratio = torch.exp(torch.lerp(low, high, draws[_CROP_RATIO]))
        box_height = (height * (area / ratio).sqrt()).round().long().clamp(1, height)
        box_width = (width * (area * ratio).sqrt()).round().long().clamp(1, width)
        top = (draws[_CROP_TOP] * (height + 1 - box_height)).long()
        left = (draws[_CROP_LEFT] * (width + 1 - box_width)).long()
        return torch.stack([top, left, box_height, box_width])

    def _colored(self, images: Tensor, draws: Tensor) -> Tensor:
        chosen = draws[_COLORED] < self.color_probability
        brightness, contrast, saturation = (
            1 + chosen * strength * _signed(draws[stream])
            for strength, stream in (
                (self.settings.brightness, _BRIGHTNESS),
                (self.settings.contrast, _CONTRAST),
                (self.settings.saturation, _SATURATION),
            )
        )
        return transforms.adjust_color(images, brightness, contrast, saturation)

    def _erased(self, images: Tensor, draws: Tensor) -> Tensor:
        sides = images.shape[2:]
        smallest, largest = self.settings.erase_area
        area = (smallest + (largest - smallest) * draws[_AREA]) * (sides[0] * sides[1])
        aspect = torch.exp(_signed(draws[_ASPECT]) * math.log(_MAX_ASPECT))
        # A rectangle that would stick out is cut to the picture, where the paper draws again: a
        # loop over draws would have to ask the device.
        height = (area * aspect).sqrt().round().long().clamp(1, sides[0])
        width = (area / aspect).sqrt().round().long().clamp(1, sides[1])
        return transforms.erase(
            images,
            top=(draws[_TOP] * (sides[0] + 1 - height)).long(),
            left=(draws[_LEFT] * (sides[1] + 1 - width)).long(),
            height=height * (draws[_ERASED] < self.settings.erase_probability),
            width=width,
        )

    def _mixed(self, images: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        sets = targets if targets.ndim == 2 else F.one_hot(targets, self.num_classes)
        probs = sets.to(torch.float32)
        # One draw for the batch, as in both papers, so it is made on the host and costs no copy.
        generator = np.random.default_rng(seed)
        chosen, cut = generator.random(2)
        if chosen >= self.mix_probability or len(images) < 2:
            return images, probs
        partner = int(generator.integers(1, len(images)))
        if not self.settings.mixup_alpha or (self.settings.cutmix_alpha and cut < 0.5):
            area = generator.beta(self.settings.cutmix_alpha, self.settings.cutmix_alpha)
            box = _box(images.shape[2], images.shape[3], area, *generator.random(2))
            return transforms.cutmix(images, probs, partner, box)
        share = generator.beta(self.settings.mixup_alpha, self.settings.mixup_alpha)
        return transforms.mixup(images, probs, partner, share)


def _signed(draws: Tensor) -> Tensor:
    """From [0, 1) to [-1, 1)."""
    return 2 * draws - 1


def _whole(draws: Tensor, most: tuple[int, int]) -> Tensor:
    """Return the draws (2, B) in [0, 1) as int64 from -most to most, each as likely.

    Each row has a limit of its own.
    """
    counts, largest = _ranges(most, draws.device)
    return (draws * counts).long() - largest


@lru_cache(maxsize=32)
def _ranges(most: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return how many numbers each range has, and its largest, (2, 1) int64; made once."""
    largest = torch.tensor(most, device=device)[:, None]
    return 2 * largest + 1, largest


def _box(height: int, width: int, area: float, y: float, x: float) -> tuple[int, int, int, int]:
    """Return a box of the picture's shape about a point, cut at the edges: top to right."""
    half_height, half_width = (0.5 * math.sqrt(area) * side for side in (height, width))
    return (
        max(round(y * height - half_height), 0),
        max(round(x * width - half_width), 0),
        min(round(y * height + half_height), height),
        min(round(x * width + half_width), width),
    )
