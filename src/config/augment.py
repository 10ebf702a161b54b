"""Settings of the augment group: what happens to training pictures, and how often."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from .added_groups import group_of
from .checks import Settings, fraction, positive, positive_int, setting

__all__ = ["OPERATIONS", "AugmentSettings", "augmentation"]

T = TypeVar("T")

# What makes the operations of plugins, by name; see `src.data.augmentation.augment.Operation`.
OPERATIONS: dict[str, str] = {}


# Without one of the others these fields change nothing.
_NEEDS = {
    "alternate_flip": ("flip",),
    "padding": ("translate", "warp_probability", "policy"),
    "warp_probability": ("rotate_degrees", "zoom"),
    **dict.fromkeys(("rotate_degrees", "zoom"), ("warp_probability",)),
    **dict.fromkeys(("crop_scale", "crop_ratio"), ("crop_probability",)),
    **dict.fromkeys(("policy_operations", "policy_magnitude"), ("policy",)),
    "color_probability": ("brightness", "contrast", "saturation"),
    **dict.fromkeys(("brightness", "contrast", "saturation"), ("color_probability",)),
    "erase_area": ("erase_probability",),
    "mix_probability": ("mixup_alpha", "cutmix_alpha"),
    **dict.fromkeys(("mixup_alpha", "cutmix_alpha"), ("mix_probability",)),
}


def _rising(value: list[float]) -> str | None:
    fine = len(value) == 2 and value[0] <= value[1]
    return None if fine else "it must be two numbers, the smaller one first"


@dataclass(frozen=True)
class AugmentSettings(Settings):
    """Settings of `src.data.augmentation.augment.Augment`; 0 turns an operation off."""

    flip: bool | None = setting(
        "mirror half of the pictures left to right; null: if the data set allows it", None
    )
    alternate_flip: bool = setting(
        "mirror a picture in every other epoch, where pictures are mirrored, and not at random",
        False,
    )
    turns: Literal["none", "half", "quarter"] = setting(
        "for pictures that have no up and down: half turns every other one by 180 degrees, quarter "
        "each by 0, 90, 180 or 270, where pictures are square",
        "none",
    )
    translate: float = setting(
        "largest shift as a fraction of the side, rounded down to whole pixels",
        0.0,
        at_least=0,
        at_most=0.5,
    )
    padding: Literal["zero", "reflect"] = setting(
        "what comes in at the edges of a moved, turned or shrunk picture", "zero"
    )
    warp_probability: float = fraction("share of pictures that are turned and zoomed", 0.0)
    rotate_degrees: float = setting("largest angle in degrees", 0.0, at_least=0, at_most=180)
    zoom: float = setting(
        "pictures are magnified by up to 1 + zoom, shrunk by up to 1 / (1 + zoom)",
        0.0,
        at_least=0,
        at_most=3,
    )
    crop_probability: float = fraction(
        "share of pictures of which a random box is magnified to the whole (random resized crop)",
        0.0,
    )
    crop_scale: list[float] = positive(
        "smallest and largest area of that box, as a fraction of the picture",
        [0.35, 1.0],
        at_most=1,
        check=_rising,
    )
    crop_ratio: list[float] = positive(
        "smallest and largest width of that box by its height, as a multiple of the picture's own",
        [0.75, 1.333],
        at_most=100,
        check=_rising,
    )
    policy: Literal["none", "trivial", "rand"] = setting(
        "operations of each picture's own on shape and colours: none; trivial (TrivialAugment: one "
        "of any strength); or rand (RandAugment: several of one strength)",
        "none",
    )
    policy_operations: int = positive_int(
        "how many operations a picture gets of policy rand", 2, at_most=5
    )
    policy_magnitude: float = setting(
        "strength of the operations of policy rand, 30 for the full one",
        9.0,
        at_least=0,
        at_most=30,
    )
    color_probability: float = fraction("share of pictures whose colours change", 0.0)
    brightness: float = fraction("largest change of brightness", 0.0)
    contrast: float = fraction("largest change of contrast", 0.0)
    saturation: float = fraction(
        "largest change of saturation; pictures in one channel have none", 0.0
    )
    erase_probability: float = fraction(
        "share of pictures in which a rectangle is painted over", 0.0
    )
    erase_area: list[float] = positive(
        "smallest and largest area painted over, as a fraction of the picture",
        [0.02, 0.33],
        at_most=1,
        check=_rising,
    )
    mix_probability: float = fraction("share of batches that are mixed (mixup or cutmix)", 0.0)
    mixup_alpha: float = setting(
        "mixup blends in shares of Beta(alpha, alpha); 0 for no mixup", 0.0, at_least=0, at_most=100
    )
    cutmix_alpha: float = setting(
        "cutmix pastes areas of Beta(alpha, alpha); 0 for no cutmix", 0.0, at_least=0, at_most=100
    )

    def without_effect(self, given: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield those of the given fields that change nothing, with what one of which they need.

        A field that was turned off, and one whose others were given as well, perhaps as 0, is left
        alone: so do the samplers of a sweep.
        """
        for name, needed in _NEEDS.items():
            wanted = name in given and self._on(name, name)
            if wanted and not any(one in given or self._on(one, name) for one in needed):
                yield name, needed

    def _on(self, name: str, for_field: str) -> bool:
        value = getattr(self, name)
        if name == "policy" and for_field.startswith("policy_"):
            return bool(value == "rand")
        return value is None or value not in (0, "none", "zero")


def augmentation(name: str, target: str) -> Callable[[type[T]], type[T]]:
    """Register an operation, whose settings are the decorated class and stand in `augment.NAME`.

    With the defaults of its settings it must change nothing, since every run has it. `target` is
    the import path of what makes it of the fields of its settings.
    """

    return group_of(AugmentSettings, name, OPERATIONS, target)
