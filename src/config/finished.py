"""Settings of the commands on finished runs: evaluate, predict, compare, select and verify."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from src.config.checks import ConfigError, Settings, setting
from src.config.export import VARIANTS
from src.config.tracking import TrackingPlace, TrackingSwitch, experiment_problem

__all__ = [
    "CompareSettings",
    "ComparisonSettings",
    "EvaluateSettings",
    "PredictSettings",
    "SelectSettings",
    "VerifySettings",
]


def _out_problem(out: str) -> str | None:
    if not Path(out).name or out.lower().endswith(".png"):
        return "it must be a CSV file; the contact sheet goes beside it, with the ending .png"
    return None


@dataclass(frozen=True)
class EvaluateSettings(Settings):
    """`python -m src.evaluate`."""

    run: str = setting("folder, id or name of a run, or champion", literal=True)
    split: str = setting("the part to measure", options=("train", "val", "test"))
    changed: str = setting(
        "a run whose files were changed after it had been sealed: refuse it, or use it as it is",
        options=("refuse", "use"),
    )
    output_dir: str = setting("folder under which the run is looked for", literal=True)
    tracking: TrackingPlace = setting("where the run is mirrored")


@dataclass(frozen=True)
class PredictSettings(Settings):
    """`python -m src.predict`."""

    run: str = setting("folder, id or name of a run, or champion", literal=True)
    images: str = setting(
        "a picture, a folder (with all below it), or a pattern like /a/**/*.jpg", literal=True
    )
    out: str | None = setting(
        "CSV file to write, with a contact sheet as PNG beside it; null for standard output",
        check=_out_problem,
        literal=True,
    )
    variant: str | None = setting(
        "exported variant to ask: onnx, int8, pt2, or chosen for the one that src.export chose; "
        "null for the run as it was trained",
        options=(*VARIANTS, "chosen"),
    )
    explain: bool = setting(
        "also show what the network looked at in some of the pictures, in a PNG beside out"
    )
    top_k: int = setting("classes named for each picture, most probable first", at_least=1)
    coverage: float | None = setting(
        "name for each picture a set of labels that holds the true one with this probability, such "
        "as 0.9; null for none",
        above=0,
        below=1,
    )
    classwise: bool = setting("the coverage holds for the pictures of each class, not just of all")
    max_error: float | None = setting(
        "answer only where at most this share of the answers is wrong, such as 0.02, and leave the "
        "other pictures to a person; null to answer all",
        above=0,
        below=1,
    )
    batch_size: int = setting("pictures at once", at_least=1)
    changed: str = setting(
        "a run whose files were changed after it had been sealed: refuse it, or use it as it is",
        options=("refuse", "use"),
    )
    output_dir: str = setting("folder under which the run is looked for", literal=True)
    tracking: TrackingPlace = setting("where the run is mirrored")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classwise and self.coverage is None:
            raise ConfigError("classwise is about the sets of labels: say coverage=0.9 as well.")


@dataclass(frozen=True)
class ComparisonSettings(Settings):
    """Which finished runs are compared."""

    runs: list[str] | None = setting("folders, ids or names of the runs to compare; null for none")
    sweep: str | None = setting(
        "name of a study whose finished runs are compared; null for no study"
    )
    experiment: str | None = setting(
        "name of an experiment in MLflow whose runs are compared; null for none",
        check=experiment_problem,
        literal=True,
    )
    filter: str | None = setting(
        "which runs in MLflow are compared, in the words of its search, such as "
        "params.`model.name` = 'cnn'; null for all",
        literal=True,
    )
    data: str | None = setting("name of a data set, to leave out the runs on others")
    part: str = setting("the part whose stored predictions are compared", options=("val", "test"))
    changed: str = setting(
        "runs whose files were changed after they had been sealed: refuse them (named ones end the "
        "command, others are left out and named), or use them as they are",
        options=("refuse", "use"),
    )
    output_dir: str = setting(
        "folder under which the runs are looked for: all finished ones, if nothing above says "
        "which",
        literal=True,
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


@dataclass(frozen=True)
class CompareSettings(ComparisonSettings):
    """`python -m src.compare`."""

    ensemble: bool | str = setting(
        "combine the runs and save what comes of it as a run: true by the better of greedy and "
        "stacking, soup by the mean of the weights of networks of one architecture",
        options=(True, False, "greedy", "stacking", "soup"),
    )


@dataclass(frozen=True)
class SelectSettings(ComparisonSettings):
    """`python -m src.select`: the settings of `compare`, and the use of its verdict."""

    run: str | None = setting(
        "folder, id or name of the run to take; null for the one that the comparison names",
        literal=True,
    )
    choose: str = setting(
        "of the comparison: the cheapest within one standard error of the winner, the cheapest of "
        "all that cannot be told from the best, or the winner",
        options=("one_se", "cheapest", "winner"),
    )
    refit: bool = setting(
        "train it once more, as long and with the same settings, on training and validation part"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part == "test":
            raise ConfigError(
                "part is 'test': a model that is chosen on the test part cannot be measured there "
                "any more; leave part=val."
            )
        compared = [field.name for field in fields(ComparisonSettings)]
        beside = [
            name for name in compared if name not in ("part", "changed", "output_dir", "tracking")
        ]
        given = [name for name in beside if getattr(self, name) is not None]
        if self.run is not None and given:
            raise ConfigError(
                f"run names one run and {given[0]} several to choose from: leave one of them out."
            )


@dataclass(frozen=True)
class VerifySettings(Settings):
    """`python -m src.verify`."""

    run: str | None = setting(
        "folder, id or name of a run, or champion; null for all of output_dir", literal=True
    )
    study: str | None = setting("folder or name of a study; null for all of output_dir")
    repair: bool = setting(
        "put damaged lines of diaries and journals aside, and delete what stores make anew"
    )
    output_dir: str = setting(
        "folder whose runs and studies are checked, with the stores", literal=True
    )
    cache_dir: str | None = setting(
        "folder of the stores; null for $BAKEOFF_CACHE or the user's cache folder", literal=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run is not None and self.study is not None:
            raise ConfigError("run and study each say what to check: say one.")
