"""Settings of the augment group: what happens to training pictures, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from src.config.checks import Settings, extend, setting

__all__ = ["OPERATIONS", "AugmentSettings", "augmentation"]

S = TypeVar("S", bound=Settings)

# What makes the operations of plugins, by name; see `src.data.augmentation.augment.Operation`.
OPERATIONS: dict[str, str] = {}


def _rising(value: list[float]) -> str | None:
    fine = len(value) == 2 and value[0] <= value[1]
    return None if fine else "it must be two numbers, the smaller one first"


@dataclass(frozen=True)
class AugmentSettings(Settings):
    """What `src.data.augmentation.augment.Augment` does; 0 turns an operation off."""

    flip: bool | None = setting(
        "mirror every other picture left and right; null: as the data set says is harmless",
        default=None,
    )
    translate: float = setting(
        "largest shift as a fraction of the side, rounded down to whole pixels",
        at_least=0,
        at_most=0.5,
        default=0.0,
    )
    padding: str = setting(
        "what comes in at the edges of a moved, turned or shrunk picture",
        options=("zero", "reflect"),
        default="zero",
    )
    warp_probability: float = setting(
        "share of pictures that are turned and zoomed", at_least=0, at_most=1, default=0.0
    )
    rotate_degrees: float = setting(
        "largest angle in degrees", at_least=0, at_most=180, default=0.0
    )
    zoom: float = setting(
        "pictures are magnified by up to 1 + zoom, shrunk by up to 1 / (1 + zoom)",
        at_least=0,
        at_most=3,
        default=0.0,
    )
    crop_probability: float = setting(
        "share of pictures of which a random box is magnified to the whole (random resized crop)",
        at_least=0,
        at_most=1,
        default=0.0,
    )
    crop_scale: list[float] = setting(
        "smallest and largest area of that box, as a fraction of the picture",
        above=0,
        at_most=1,
        check=_rising,
        default=[0.35, 1.0],
    )
    crop_ratio: list[float] = setting(
        "smallest and largest width of that box by its height, as a multiple of the picture's own",
        above=0,
        at_most=100,
        check=_rising,
        default=[0.75, 1.333],
    )
    policy: str = setting(
        "operations of each picture's own on shape and colours: none; trivial (TrivialAugment: one "
        "of any strength); or rand (RandAugment: several of one strength)",
        options=("none", "trivial", "rand"),
        default="none",
    )
    policy_operations: int = setting(
        "how many operations a picture gets of policy rand", at_least=1, at_most=5, default=2
    )
    policy_magnitude: float = setting(
        "strength of the operations of policy rand, 30 for the full one",
        at_least=0,
        at_most=30,
        default=9.0,
    )
    color_probability: float = setting(
        "share of pictures whose colours change", at_least=0, at_most=1, default=0.0
    )
    brightness: float = setting("largest change of brightness", at_least=0, at_most=1, default=0.0)
    contrast: float = setting("largest change of contrast", at_least=0, at_most=1, default=0.0)
    saturation: float = setting(
        "largest change of saturation; pictures in one channel have none",
        at_least=0,
        at_most=1,
        default=0.0,
    )
    erase_probability: float = setting(
        "share of pictures in which a rectangle is painted over",
        at_least=0,
        at_most=1,
        default=0.0,
    )
    erase_area: list[float] = setting(
        "smallest and largest area painted over, as a fraction of the picture",
        above=0,
        at_most=1,
        check=_rising,
        default=[0.02, 0.33],
    )
    mix_probability: float = setting(
        "share of batches that are mixed (mixup or cutmix)", at_least=0, at_most=1, default=0.0
    )
    mixup_alpha: float = setting(
        "mixup blends in shares of Beta(alpha, alpha); 0 for no mixup",
        at_least=0,
        at_most=100,
        default=0.0,
    )
    cutmix_alpha: float = setting(
        "cutmix pastes areas of Beta(alpha, alpha); 0 for no cutmix",
        at_least=0,
        at_most=100,
        default=0.0,
    )


def augmentation(name: str, target: str) -> Callable[[type[S]], type[S]]:
    """Register an operation, whose settings are the decorated class and stand in `augment.NAME`.

    With the defaults of its settings it must change nothing: every run has it.

    Args:
        name: of the group of settings.
        target: import path of what makes it of the fields of its settings.
    """

    def register(cls: type[S]) -> type[S]:
        meaning = (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")
        extend(AugmentSettings, name, cls, meaning)
        OPERATIONS[name] = target
        return cls

    return register
