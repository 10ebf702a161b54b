"""Random changes to training pictures, on whole batches and on the batch's own device.

What happens to a picture is a function of (seed, epoch, sample id): not of the batch it sits in,
nor of what was drawn before. Only mixing (mixup, cutmix) looks at the neighbours; it is a function
of (seed, epoch, step) and the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.augmentation import affine, transforms
from src.data.augmentation.policies import LARGEST_MAGNITUDE, POLICIES, Policy, Step
from src.data.randomness import derive_seed, uniforms

__all__ = ["Augment"]

# What the streams of a sample are for. Append only: a number that moves changes every run.
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


class Augment:
    """Augment a batch: move, crop, flip, turn, zoom, apply a policy, change colours, erase, mix.

    Cropping, turning, zooming and what a policy moves are one interpolation together. What a turn
    brings in from outside the crop is the picture around it, as far as there is any.

    Args:
        flip: mirror every other picture left and right; None where `flip_ok` decides.
        flip_ok: whether a mirrored picture of these data keeps its class.
        translate: largest shift in either direction as a fraction of the side, in [0, 0.5]; whole
            pixels, rounded down: on 8x8 digits a shift of one pixel is already a loss.
        padding: what comes in at the edges, "zero" or "reflect".
        warp_probability: share of pictures that are turned and zoomed.
        rotate_degrees: largest angle in either direction, in [0, 180].
        zoom: pictures are magnified by up to 1 + zoom and shrunk by up to 1 / (1 + zoom).
        crop_probability: share of pictures of which a box is magnified to the whole, as Szegedy et
            al. train Inception ("Going deeper with convolutions", CVPR 2015).
        crop_scale: smallest and largest area of the box as a fraction of the picture.
        crop_ratio: smallest and largest ratio of the box's width to its height, as a multiple of
            the picture's own; drawn evenly on the scale of ratios, and cut to those with which a
            box of its area fits.
        policy: "none", "trivial" (TrivialAugment) or "rand" (RandAugment); see
            `src.data.augmentation.policies`.
        policy_operations: how many each picture gets of "rand".
        policy_magnitude: how strong those of "rand" are, in [0, 30].
        color_probability: share of pictures whose colours change.
        brightness, contrast, saturation: factors are drawn from 1 - x to 1 + x, x in [0, 1].
        erase_probability: share of pictures in which a rectangle is painted over.
        erase_area: smallest and largest area of the rectangle as a fraction of the picture.
        mix_probability: share of batches that are mixed.
        mixup_alpha, cutmix_alpha: the shares come from Beta(alpha, alpha); 0 for never. Where
            both are above 0, each has half of the mixed batches.
        num_classes: K; needed for mixing alone.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        flip: bool | None = None,
        flip_ok: bool = False,
        translate: float = 0.0,
        padding: str = "zero",
        warp_probability: float = 0.0,
        rotate_degrees: float = 0.0,
        zoom: float = 0.0,
        crop_probability: float = 0.0,
        crop_scale: Sequence[float] = (0.35, 1.0),
        crop_ratio: Sequence[float] = (3 / 4, 4 / 3),
        policy: str = "none",
        policy_operations: int = 2,
        policy_magnitude: float = 9.0,
        color_probability: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        erase_probability: float = 0.0,
        erase_area: Sequence[float] = (0.02, 0.33),
        mix_probability: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        num_classes: int = 0,
    ) -> None:
        for name, value, highest in (
            ("translate", translate, 0.5),
            ("warp_probability", warp_probability, 1),
            ("rotate_degrees", rotate_degrees, 180),
            ("zoom", zoom, math.inf),
            ("crop_probability", crop_probability, 1),
            ("policy_magnitude", policy_magnitude, LARGEST_MAGNITUDE),
            ("color_probability", color_probability, 1),
            ("brightness", brightness, 1),
            ("contrast", contrast, 1),
            ("saturation", saturation, 1),
            ("erase_probability", erase_probability, 1),
            ("mix_probability", mix_probability, 1),
            ("mixup_alpha", mixup_alpha, math.inf),
            ("cutmix_alpha", cutmix_alpha, math.inf),
        ):
            if not 0 <= value <= highest:
                raise ValueError(f"{name} is {value}: it must be from 0 to {highest}.")
        if padding not in ("zero", "reflect"):
            raise ValueError(f"padding is {padding!r}: it must be zero or reflect.")
        if policy not in POLICIES:
            raise ValueError(f"policy is {policy!r}: it must be {', '.join(POLICIES)}.")
        if policy_operations < 1:
            raise ValueError(f"policy_operations is {policy_operations}: it must be at least 1.")
        for name, (low, high), highest in (
            ("erase_area", _pair(erase_area), 1),
            ("crop_scale", _pair(crop_scale), 1),
            ("crop_ratio", _pair(crop_ratio), math.inf),
        ):
            if not 0 < low <= high <= highest:
                raise ValueError(f"{name} is {[low, high]}: it must rise within 0 to {highest}.")
        self.flip = flip_ok if flip is None else flip
        self.translate = translate
        self.padding = padding
        self.warp_probability = warp_probability if rotate_degrees or zoom else 0.0
        self.rotate_degrees = rotate_degrees
        self.zoom = zoom
        self.crop_probability = crop_probability
        self.crop_scale, self.crop_ratio = _pair(crop_scale), _pair(crop_ratio)
        self.policy: Policy | None = None
        if policy != "none":
            self.policy = Policy(policy, policy_operations, policy_magnitude)
        self.color_probability = color_probability if brightness or contrast or saturation else 0.0
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.erase_probability = erase_probability
        self.erase_area = _pair(erase_area)
        self.mix_probability = mix_probability if mixup_alpha or cutmix_alpha else 0.0
        self.mixup_alpha = mixup_alpha
        self.cutmix_alpha = cutmix_alpha
        self.num_classes = num_classes
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
            images: (B, C, H, W) uint8.
            targets: (B,) int64.
            sample_ids: (B,) int64, the same for a picture in every epoch.
            seed: the seed of the run.
            epoch: from 0.
            step: the batch's place in its epoch, from 0.

        Returns:
            images (B, C, H, W), 0 to 255: float32 where they were coloured or blended, or turned
            without a crop or a policy, else uint8; and targets, (B,) int64 or, with
            `soft_targets`, (B, K) float32.
        """
        policy_streams = self.policy.streams if self.policy else 0
        draws = uniforms(seed, epoch, sample_ids, _STREAMS + policy_streams)
        steps = self.policy.steps(draws[_STREAMS:]) if self.policy else []
        if self.crop_probability or steps:
            images = self._placed(images, draws, steps)
        else:
            images = self._moved(images, draws, draws[_FLIP] < 0.5 if self.flip else None)
            if self.warp_probability:
                images = transforms.warp(images, *self._turns(draws), padding=self.padding)
        if self.policy:
            self.policy.recolor_(images, steps)
        if self.color_probability:
            images = self._colored(images, draws)
        if self.erase_probability:
            images = self._erased(images, draws)
        if self.soft_targets:
            return self._mixed(images, targets, derive_seed(seed, epoch, step, _MIX_KEY))
        return images, targets

    def _moved(self, images: Tensor, draws: Tensor, flips: Tensor | None) -> Tensor:
        # The small number takes back what 0.29 * 100 loses as a binary fraction.
        down, right = (int(self.translate * side + 1e-9) for side in images.shape[2:])
        if down or right:
            return transforms.translate(
                images,
                down=_whole(draws[_DOWN], down),
                right=_whole(draws[_RIGHT], right),
                flips=flips,
                padding=self.padding,
            )
        return images if flips is None else transforms.flip_horizontal(images, flips)

    def _turns(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Angles in radians and zooms, (B,): 0 and 1 for the pictures that are not chosen."""
        chosen = draws[_WARPED] < self.warp_probability
        angle = _signed(draws[_ANGLE]) * math.radians(self.rotate_degrees)
        # Drawn evenly on the scale of ratios: twice as large is as likely as half as large.
        zoom = torch.exp(_signed(draws[_ZOOM]) * math.log1p(self.zoom))
        return (
            torch.where(chosen, angle, torch.zeros_like(angle)),
            torch.where(chosen, zoom, torch.ones_like(zoom)),
        )

    def _placed(self, images: Tensor, draws: Tensor, steps: Sequence[Step]) -> Tensor:
        """Move pixels, each picture in one interpolation; a new tensor, uint8."""
        images = self._moved(images, draws, None)
        flips = draws[_FLIP] < (0.5 if self.flip else 0.0)
        boxes = self._boxes(draws, *images.shape[2:])
        if not self.warp_probability and not steps:
            return transforms.crop(images, boxes, flips=flips)
        to_source, oblique = self._maps(draws, steps, boxes, flips, images.shape[2:])

        def cropped(rows: Tensor | slice) -> Tensor:
            return transforms.crop(images[rows], boxes[:, rows], flips=flips[rows])

        def sampled(rows: Tensor | slice) -> Tensor:
            floats = transforms.resample(images[rows], to_source[rows], padding=self.padding)
            return floats.round_().to(torch.uint8)

        placed = torch.empty_like(images)
        transforms.change_chosen_(placed, ~oblique, cropped)
        transforms.change_chosen_(placed, oblique, sampled)
        return placed

    def _maps(
        self,
        draws: Tensor,
        steps: Sequence[Step],
        boxes: Tensor,
        flips: Tensor,
        sides: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Return maps to the source, (B, 2, 3), and (B,) bool, whether each is more than a crop."""
        maps = [affine.crop(boxes, *sides), affine.mirror(flips)]
        oblique = draws[_WARPED] < self.warp_probability
        if self.warp_probability:
            maps.append(affine.turn(*self._turns(draws), *sides))
        if self.policy:
            motion, moved = self.policy.geometry(steps, *sides)
            maps.append(motion)
            oblique = oblique | moved
        return reduce(affine.compose, maps), oblique

    def _boxes(self, draws: Tensor, height: int, width: int) -> Tensor:
        """Top, left, height and width, (4, B) int64 pixels: of the whole where none is cropped."""
        smallest, largest = self.crop_scale
        area = smallest + (largest - smallest) * draws[_CROP_AREA]
        area = torch.where(draws[_CROPPED] < self.crop_probability, area, torch.ones_like(area))
        # A box fits if its ratio is between its area and one over it. The paper draws area and
        # ratio again where one does not, which makes large boxes rarer than small ones.
        widest = -area.log()
        low, high = (
            torch.maximum(widest.clamp(max=math.log(ratio)), -widest) for ratio in self.crop_ratio
        )
        ratio = torch.exp(torch.lerp(low, high, draws[_CROP_RATIO]))
        box_height = (height * (area / ratio).sqrt()).round().long().clamp(1, height)
        box_width = (width * (area * ratio).sqrt()).round().long().clamp(1, width)
        top = (draws[_CROP_TOP] * (height - box_height + 1)).long()
        left = (draws[_CROP_LEFT] * (width - box_width + 1)).long()
        return torch.stack([top, left, box_height, box_width])

    def _colored(self, images: Tensor, draws: Tensor) -> Tensor:
        chosen = draws[_COLORED] < self.color_probability
        brightness, contrast, saturation = (
            1 + chosen * strength * _signed(draws[stream])
            for strength, stream in (
                (self.brightness, _BRIGHTNESS),
                (self.contrast, _CONTRAST),
                (self.saturation, _SATURATION),
            )
        )
        return transforms.adjust_color(images, brightness, contrast, saturation)

    def _erased(self, images: Tensor, draws: Tensor) -> Tensor:
        sides = images.shape[2:]
        smallest, largest = self.erase_area
        area = (smallest + (largest - smallest) * draws[_AREA]) * (sides[0] * sides[1])
        aspect = torch.exp(_signed(draws[_ASPECT]) * math.log(_MAX_ASPECT))
        # A rectangle that would stick out is cut to the picture, where the paper draws again: a
        # loop over draws would have to ask the device.
        height = (area * aspect).sqrt().round().long().clamp(1, sides[0])
        width = (area / aspect).sqrt().round().long().clamp(1, sides[1])
        return transforms.erase(
            images,
            top=(draws[_TOP] * (sides[0] - height + 1)).long(),
            left=(draws[_LEFT] * (sides[1] - width + 1)).long(),
            height=height * (draws[_ERASED] < self.erase_probability),
            width=width,
        )

    def _mixed(self, images: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        probs = F.one_hot(targets, self.num_classes).to(torch.float32)
        # One draw for the batch, as in both papers, so it is made on the host and costs no copy.
        generator = np.random.default_rng(seed)
        chosen, cut = generator.random(2)
        if chosen >= self.mix_probability or len(images) < 2:
            return images, probs
        partner = int(generator.integers(1, len(images)))
        if not self.mixup_alpha or (self.cutmix_alpha and cut < 0.5):
            area = generator.beta(self.cutmix_alpha, self.cutmix_alpha)
            box = _box(images.shape[2], images.shape[3], area, *generator.random(2))
            return transforms.cutmix(images, probs, partner, box)
        share = generator.beta(self.mixup_alpha, self.mixup_alpha)
        return transforms.mixup(images, probs, partner, share)


def _pair(values: Sequence[float]) -> tuple[float, float]:
    """Two numbers; not a number twice where they are not two."""
    return (float(values[0]), float(values[1])) if len(values) == 2 else (math.nan, math.nan)


def _signed(draws: Tensor) -> Tensor:
    """From [0, 1) to [-1, 1)."""
    return 2 * draws - 1


def _whole(draws: Tensor, largest: int) -> Tensor:
    """From [0, 1) to the whole numbers of -largest to largest, each as likely."""
    return (draws * (2 * largest + 1)).long() - largest


def _box(height: int, width: int, area: float, y: float, x: float) -> tuple[int, int, int, int]:
    """Return a box of the picture's shape about a point, cut at the edges: top to right."""
    half_height, half_width = (0.5 * math.sqrt(area) * side for side in (height, width))
    return (
        max(round(y * height - half_height), 0),
        max(round(x * width - half_width), 0),
        min(round(y * height + half_height), height),
        min(round(x * width + half_width), width),
    )
