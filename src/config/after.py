"""Settings of what is done with a finished run: evaluate it, predict with it."""

from __future__ import annotations

from dataclasses import dataclass

from src.config.checks import Settings, setting
from src.config.tracking import TrackingPlace

__all__ = ["EvaluateSettings", "PredictSettings"]


@dataclass(frozen=True)
class EvaluateSettings(Settings):
    """`python -m src.evaluate`."""

    run: str = setting("folder, id or name of a run")
    split: str = setting("the part to measure", options=("train", "val", "test"))
    output_dir: str = setting("folder under which the run is looked for")
    tracking: TrackingPlace = setting("where the run is mirrored")


@dataclass(frozen=True)
class PredictSettings(Settings):
    """`python -m src.predict`."""

    run: str = setting("folder, id or name of a run")
    images: str = setting("a folder of pictures (with the folders in it) or one picture")
    out: str | None = setting("CSV file to write; null for standard output")
    top_k: int = setting("classes named for each picture, most probable first", at_least=1)
    batch_size: int = setting("pictures at once", at_least=1)
    output_dir: str = setting("folder under which the run is looked for")
    tracking: TrackingPlace = setting("where the run is mirrored")
