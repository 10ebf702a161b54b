"""Settings of what is done with a finished run: evaluate it, predict with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from src.config.checks import ConfigError, Settings, setting
from src.config.tracking import TrackingPlace, TrackingSwitch, experiment_problem

__all__ = ["CompareSettings", "EvaluateSettings", "PredictSettings"]


def _out_problem(out: str) -> str | None:
    if not Path(out).name or out.lower().endswith(".png"):
        return "it must be a CSV file; the contact sheet goes beside it, with the ending .png"
    return None


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
    images: str = setting("a picture, a folder (with all below it), or a pattern like /a/**/*.jpg")
    out: str | None = setting(
        "CSV file to write, with a contact sheet as PNG beside it; null for standard output",
        check=_out_problem,
    )
    top_k: int = setting("classes named for each picture, most probable first", at_least=1)
    batch_size: int = setting("pictures at once", at_least=1)
    output_dir: str = setting("folder under which the run is looked for")
    tracking: TrackingPlace = setting("where the run is mirrored")


@dataclass(frozen=True)
class CompareSettings(Settings):
    """`python -m src.compare`."""

    runs: list[str] | None = setting("folders, ids or names of the runs to compare; null for none")
    sweep: str | None = setting(
        "name of a study whose finished runs are compared; null for no study"
    )
    experiment: str | None = setting(
        "name of an experiment in MLflow whose runs are compared; null for none",
        check=experiment_problem,
    )
    filter: str | None = setting(
        "which runs in MLflow are compared, in the words of its search, such as "
        "params.`model.name` = 'cnn'; null for all"
    )
    data: str | None = setting("name of a data set, to leave out the runs on others")
    part: str = setting("the part whose stored predictions are compared", options=("val", "test"))
    ensemble: bool | str = setting(
        "combine the runs and save what comes of it as a run: true by the better of greedy and "
        "stacking, soup by the mean of the weights of networks of one architecture",
        options=(True, False, "greedy", "stacking", "soup"),
    )
    output_dir: str = setting(
        "folder under which the runs are looked for: all finished ones, if nothing above says which"
    )
    tracking: TrackingSwitch = setting("where runs are looked up and the comparison is mirrored")

    def __post_init__(self) -> None:
        super().__post_init__()
        in_mlflow = "experiment" if self.experiment is not None else "filter"
        asked = self.experiment is not None or self.filter is not None
        ways = {"runs": self.runs is not None, "sweep": self.sweep is not None, in_mlflow: asked}
        said = [name for name, given in ways.items() if given]
        if len(said) > 1:
            raise ConfigError(f"{' and '.join(said)} each say which runs to compare: say one.")
