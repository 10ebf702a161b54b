"""Settings of `python -m src.export`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from src.config.checks import ConfigError, Settings, nearest, setting
from src.config.tracking import TrackingPlace

__all__ = ["ORIGINAL", "VARIANTS", "ExportSettings"]

# What a network can be exported as.
VARIANTS = ("onnx", "int8", "pt2")
# The choice of a run that is best left as it is.
ORIGINAL = "pytorch"


def _names_problem(names: Any) -> str | None:
    for name in names:
        if name not in VARIANTS:
            return f"{name} is none of {', '.join(VARIANTS)}{nearest(name, VARIANTS)}"
    if not names or len(set(names)) < len(names):
        return f"it must name some of {', '.join(VARIANTS)}, each once"
    return None


def _sizes_problem(sizes: Any) -> str | None:
    return None if sizes else "it must name at least one size"


@dataclass(frozen=True)
class ExportSettings(Settings):
    """`python -m src.export`."""

    run: str = setting("folder, id or name of a run, or champion", literal=True)
    variants: list[str] = setting(
        f"what to make, of {', '.join(VARIANTS)}; all but pt2 need the extra `export`",
        check=_names_problem,
    )
    choose: str | None = setting(
        "the variant to keep as the run's choice; null for the fastest within least_equal",
        options=(*VARIANTS, ORIGINAL),
    )
    least_equal: float = setting(
        "share of the validation pictures that a variant must label as the original does, to be "
        "recommended",
        at_least=0,
        at_most=1,
    )
    batch_sizes: list[int] = setting(
        "pictures at once that are timed; the first size says what is fastest",
        at_least=1,
        at_most=1024,
        check=_sizes_problem,
    )
    rounds: int = setting("times that each variant has its turn to be timed", at_least=1)
    check_pictures: int = setting("most validation pictures that are compared", at_least=1)
    calibration_pictures: int = setting(
        "training pictures whose activations set the ranges of int8", at_least=1
    )
    changed: str = setting(
        "a run whose files were changed after it had been sealed: refuse it, or use it as it is",
        options=("refuse", "use"),
    )
    output_dir: str = setting("folder under which the run is looked for", literal=True)
    tracking: TrackingPlace = setting("where the run is mirrored")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.choose not in (None, ORIGINAL, *self.variants):
            raise ConfigError(f"choose is {self.choose!r}: variants leaves it out.")
