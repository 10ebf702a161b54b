"""Settings of the commands on finished runs, from evaluate to verify."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .checks import ConfigError, Settings, distinct, fraction, positive_int, setting
from .metrics import metric_setting, plain_metric, ranking_metrics
from .tracking import TrackingPlace, TrackingSwitch, experiment_problem

__all__ = [
    "HUB",
    "MADE_BY_TORCH",
    "ORIGINAL",
    "CompareSettings",
    "ComparisonSettings",
    "EvaluateSettings",
    "ExportSettings",
    "ExportedAs",
    "PredictSettings",
    "PushSettings",
    "ScalingSettings",
    "SelectSettings",
    "VerifySettings",
]

# What a repository of the Hugging Face hub begins with.
HUB = "hf://"
# What a run can be exported as; how each is made is in `src.serving.export_formats`.
ExportedAs = Literal["onnx", "int8", "pt2"]
MADE_BY_TORCH = frozenset({"pt2"})  # without the packages of the extra `export`
# The choice of a run that is best left as it is.
ORIGINAL = "pytorch"
_RUN = "folder, id or name of a run, or a sweep's candidate such as cnn-12 (or cnn-12:STUDY)"
# Endings of other formats, in which a program would not find a table as it expects it.
_NO_CSV = frozenset((".json", ".jsonl", ".xlsx", ".xls", ".ods", ".parquet", ".html", ".yaml"))


def _out_problem(out: str) -> str | None:
    if out == "-":
        return "without out the rows go to standard output; a file of this name is ./-"
    if not Path(out).name or out.lower().endswith(".png"):
        return "it must be a CSV file; the contact sheet goes beside it, with the ending .png"
    if Path(out).suffix.lower() in _NO_CSV:
        return f"it is written as CSV: use {Path(out).with_suffix('.csv')}"
    return None


@dataclass(frozen=True)
class _OneRunSettings(Settings):
    """The run that a command is about, and its place."""

    run: str = setting(f"{_RUN}, or champion", literal=True)
    changed: Literal["refuse", "use"] = setting(
        "a run whose files were changed after it had been sealed: refuse it, or use it as it is",
        "refuse",
    )
    output_dir: str = setting("folder under which the run is looked for", "outputs", literal=True)
    tracking: TrackingPlace = setting("where the run is mirrored")


@dataclass(frozen=True)
class EvaluateSettings(_OneRunSettings):
    """`python -m src.evaluate`."""

    config_name = "evaluate"

    split: Literal["train", "val", "test"] = setting("the part to measure", "val")


def _name_plainly(settings: Any) -> None:
    """Give the metric of settings its plain name, where it was given by its key."""
    if settings.metric is not None:
        object.__setattr__(settings, "metric", plain_metric(settings.metric))


@dataclass(frozen=True)
class ScalingSettings(_OneRunSettings):
    """`python -m src.scaling`."""

    config_name = "scaling"

    fractions: list[float] = setting(
        "of the training pictures, on each of which the run's settings are trained once more",
        [0.125, 0.25, 0.5],
        above=0,
        below=1,
        check=distinct,
    )
    factors: list[float] = setting(
        "how many times the training pictures are forecast, such as 2 for twice as many",
        [2.0, 4.0],
        above=1,
        at_most=64,
        check=distinct,
    )
    goal: float | None = setting(
        "figure that is wanted, in the units of the metric (0.95 is 95 %): how many training "
        "pictures it takes; null for none",
        None,
    )
    metric: str | None = metric_setting(
        "what is forecast; null for accuracy, of several labels a picture map, of ordered classes "
        "kappa, of pixels mean IoU, and for the mean cost of a run with data.answer=cost",
        None,
        ranking_metrics,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _name_plainly(self)


@dataclass(frozen=True)
class PredictSettings(_OneRunSettings):
    """`python -m src.predict`."""

    config_name = "predict"

    images: str = setting(
        "a picture, a folder (with all below it), or a pattern like /a/**/*.jpg", literal=True
    )
    out: str | None = setting(
        "CSV file to write, with a contact sheet as PNG beside it; with a class for every pixel a "
        "new folder for masks, overlays and a CSV file of shares; null for standard output",
        None,
        check=_out_problem,
        literal=True,
    )
    variant: Literal[ExportedAs, "chosen"] | None = setting(
        "exported variant to use: onnx, int8, pt2, or chosen for the one that src.export chose; "
        "null for the run as it was trained",
        None,
    )
    explain: bool = setting(
        "also show what the network looked at in some of the pictures, in a PNG beside out", False
    )
    windows: bool = setting(
        "of models with a class for every pixel: take each picture at its own size, through "
        "overlapping windows of the size of the training, where it would else be resized to that "
        "size; for pictures of the same scale as those of the training, cut out of larger ones",
        False,
    )
    top_k: int | None = positive_int(
        "classes named for each picture, most probable first; of several labels in a column of "
        "their own, whatever reaches a threshold; null for 5, and of several labels for none",
        None,
    )
    coverage: float | None = setting(
        "name for each picture a set of labels that holds the true one with this probability, such "
        "as 0.9, or of several labels this share of them on average; null for none",
        None,
        above=0,
        below=1,
    )
    classwise: bool = setting(
        "the coverage holds for the pictures of each class or label, not just of all", False
    )
    max_error: float | None = setting(
        "answer only where at most this share of the answers is wrong, such as 0.02, and leave the "
        "other pictures to a person; null to answer all",
        None,
        above=0,
        below=1,
    )
    label_next: int | None = positive_int(
        "also write so many pictures whose labels would teach the model most, beside out: a table "
        "to correct the labels in, and copies in a folder for each class, or a table of those to "
        "draw masks for; null for none",
        None,
    )
    batch_size: int = positive_int("pictures at once", 128)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classwise and self.coverage is None:
            raise ConfigError("classwise is about the sets of labels: set coverage=0.9 as well.")


@dataclass(frozen=True)
class ExportSettings(_OneRunSettings):
    """`python -m src.export`."""

    config_name = "export"

    variants: list[ExportedAs] = setting(
        "what to make, of onnx, int8, pt2; all but pt2 need the extra `export`",
        ["onnx", "int8", "pt2"],
        check=distinct,
    )
    choose: Literal[ExportedAs, "pytorch"] | None = setting(
        "the variant to keep as the run's choice; null for the fastest within least_equal", None
    )
    least_equal: float = fraction(
        "share of the validation pictures that a variant must label as the original does, to be "
        "recommended; of masks share of the pixels, and the mean IoU may differ by the rest to 1",
        0.999,
    )
    batch_sizes: list[int] | None = positive_int(
        "pictures at once that are timed; the first size says what is fastest; null for 1 and 64, "
        "or of masks 1 and 8",
        None,
        at_most=1024,
        check=lambda sizes: None if sizes else "it must name at least one size",
    )
    rounds: int = positive_int("times that each variant has its turn to be timed", 15)
    check_pictures: int = positive_int(
        "most pictures that are compared, of validation or without such a part of training: of "
        "1,000, the one that least_equal=0.999 allows may differ, and where none does, 99.6 % of "
        "all are labelled alike at least (95 % interval)",
        1_000,
    )
    calibration_pictures: int = positive_int(
        "training pictures whose activations set the ranges of int8", 512
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.choose not in (None, ORIGINAL, *self.variants):
            raise ConfigError(f"choose is {self.choose!r}: variants leaves it out.")


@dataclass(frozen=True)
class ComparisonSettings(Settings):
    """The finished runs that are compared."""

    runs: list[str] | None = setting(
        "folders, ids or names of the runs, or candidates of sweeps, to compare; null for none",
        None,
    )
    sweep: str | None = setting(
        "name of a study whose finished runs are compared; null for no study", None, literal=True
    )
    experiment: str | None = setting(
        "name of an experiment in MLflow whose runs are compared; null for none",
        None,
        check=experiment_problem,
        literal=True,
    )
    filter: str | None = setting(
        "search filter of MLflow for the runs that are compared, such as "
        "params.`model.name` = 'cnn'; null for all",
        None,
        literal=True,
    )
    data: str | None = setting("name of a data set, to leave out the runs on others", None)
    part: Literal["val", "test"] = setting("the part whose stored predictions are compared", "val")
    metric: str | None = metric_setting(
        "what candidates are ranked by; null for that of the study that is compared, else "
        "accuracy, of several labels a picture map, of ordered classes kappa, of pixels mean IoU",
        None,
        ranking_metrics,
    )
    costs: str | None = setting(
        "CSV file for metric=cost: a header of class names, and a row for each class with its name "
        "and the cost of each prediction",
        None,
        literal=True,
    )
    gap: float | None = setting(
        "difference between candidates that matters, in the units of the metric: how probable it "
        "is that the comparison shows one, and what it takes; null for 0.01, which is one point, "
        "and of a cost for a hundredth of the range of costs",
        None,
        above=0,
    )
    band: float | None = setting(
        "difference that is practically equivalent, in the units of the metric: a faster candidate "
        "that is farther behind is not preferred; null for half of what gap is by itself",
        None,
        at_least=0,
    )
    changed: Literal["refuse", "use"] = setting(
        "runs whose files were changed after they had been sealed: refuse them (named ones end the "
        "command, others are left out and named), or use them as they are",
        "refuse",
    )
    output_dir: str = setting(
        "folder under which the runs are looked for: all finished ones, if nothing above says "
        "which",
        "outputs",
        literal=True,
    )
    tracking: TrackingSwitch = setting("where runs are looked up and the comparison is mirrored")

    def __post_init__(self) -> None:
        super().__post_init__()
        _name_plainly(self)
        in_mlflow = "experiment" if self.experiment is not None else "filter"
        named = [name for name in ("runs", "sweep", in_mlflow) if getattr(self, name) is not None]
        if len(named) > 1:
            raise ConfigError(f"{' and '.join(named)} each select runs to compare: give only one.")
        if self.runs == []:
            raise ConfigError("runs is []: it must name at least one run.")
        if (self.metric == "cost") != (self.costs is not None):
            raise ConfigError(
                "metric=cost and costs=FILE.csv go together: the file says what each mistake costs."
            )


@dataclass(frozen=True)
class CompareSettings(ComparisonSettings):
    """`python -m src.compare`."""

    config_name = "compare"

    ensemble: Literal[True, False, "greedy", "stacking", "soup"] = setting(
        "combine the runs and save what comes of it as a run: true by the better of greedy and "
        "stacking, soup by the mean of the weights of networks of one architecture",
        False,
    )
    subgroup: str | None = setting(
        "column of the CSV file that the runs were trained from, such as camera: the page shows "
        "how right the best are where it has each of its values; null for none",
        None,
        literal=True,
    )


@dataclass(frozen=True)
class SelectSettings(ComparisonSettings):
    """`python -m src.select`: the settings of `compare`, and the use of its verdict."""

    config_name = "select"

    run: str | None = setting(
        f"{_RUN}, to take; null for the one that the comparison names",
        None,
        literal=True,
    )
    choose: Literal["one_se", "cheapest", "winner"] = setting(
        "which candidate of the comparison is taken: one_se, one that is at least 1.5 times as "
        "fast as the winner and behind it by band and one standard error at most, if there is one; "
        "cheapest, the same of all that are statistically tied with the best; winner, the winner",
        "one_se",
    )
    refit: bool = setting(
        "train it once more, as long and with the same settings, on training and validation part",
        False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.part == "test":
            raise ConfigError(
                "part is 'test': a model that is chosen on the test part cannot be measured there "
                "any more; leave part=val."
            )
        # With a study it is one of its candidates.
        sweep = ("sweep",) if self.run == "champion" else ()
        several = ("runs", *sweep, "experiment", "filter", "data", "metric", "costs")
        given = [name for name in several if getattr(self, name) is not None]
        if self.run is not None and given:
            raise ConfigError(
                f"run names one run and {given[0]} several to choose from: leave one of them out."
            )


def _place_problem(to: str) -> str | None:
    address = to.removeprefix(HUB)
    if address != to and not re.fullmatch(r"[\w.-]+/[\w.-]+", address):
        return f"it must be a folder, or {HUB}USER/NAME"
    if to.startswith("hf:") and address == to:
        return f"the hub is named by {HUB}USER/NAME, with two slashes"
    if address == to and "://" in to:
        return f"only {HUB}USER/NAME is known beside folders"
    return None


@dataclass(frozen=True)
class PushSettings(_OneRunSettings):
    """`python -m src.push`."""

    config_name = "push"

    to: str = setting(
        "folder to write, or hf://USER/NAME for a repository of the Hugging Face hub",
        check=_place_problem,
        literal=True,
    )
    license: str = setting(
        "licence of the model in the hub's words, such as apache-2.0 or cc-by-4.0: which one the "
        "pictures and the published weights allow is your decision",
        "unknown",
    )
    private: bool = setting("make a new repository of the hub private", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.private and not self.to.startswith(HUB):
            raise ConfigError(f"private is about repositories of the hub: set to={HUB}USER/NAME.")


@dataclass(frozen=True)
class VerifySettings(Settings):
    """`python -m src.verify`."""

    config_name = "verify"

    run: str | None = setting(
        f"{_RUN}, or champion; null for all of output_dir", None, literal=True
    )
    study: str | None = setting(
        "folder or name of a study; null for all of output_dir", None, literal=True
    )
    repair: bool = setting(
        "put damaged lines of diaries and journals aside, and delete what stores make anew", False
    )
    output_dir: str = setting(
        "folder whose runs and studies are checked, with the stores", "outputs", literal=True
    )
    cache_dir: str | None = setting(
        "folder of the stores; null for $BAKEOFF_CACHE or the user's cache folder",
        None,
        literal=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run is not None and self.study is not None:
            raise ConfigError("run and study each select what to check: give only one.")
