"""The folder of a run: its name, the paths of its parts, and how it is found."""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..config.checks import not_written
from ..config.features import EXPORTED, EmbeddingSettings, HandcraftedSettings
from ..config.overrides import output_overrides
from ..config.plugins import plugin_overrides
from ..config.schema import RunSettings, stored_settings
from ..data.splitting.test_usage import refuse_uncountable
from ..machine.disk import refusal
from ..machine.package import command
from ..machine.regular_files import refuse_odd_files
from ..machine.text import nearest
from ..machine.yaml_text import read_yaml
from ..records.champions import find_champion, plain_name
from ..records.run import RunSummary
from ..serving.bundle_files import read_metadata
from ..storage.files import write_atomically
from ..storage.locks import if_free
from ..targets import kind_of
from ..tracking.spool import is_being_written
from .seal import amending, changed_since
from .sweep_record import candidate_names, read_sweep_record, sweep_file, trainings_of

__all__ = [
    "CLASSIFIER",
    "FOLDS",
    "LABELS",
    "NETWORK",
    "PAGE",
    "REFIT",
    "RunFolder",
    "drop_checkpoints",
    "finished_summary",
    "open_folder",
    "predict_command",
    "read_json",
    "refuse_unfinished",
    "trained_run",
]

# In the folder of a cross-validation and in no other: the run of each fold.
FOLDS = "folds.json"
# In the folder of a run: which run it was trained again in, on the validation part as well.
REFIT = "refit.json"

# What the review of a run's labels writes: a table to correct, and a page to look at.
LABELS, PAGE = "labels.csv", "label_errors.html"

# The endings of a network's checkpoint and of a classifier on features.
NETWORK, CLASSIFIER = ".ckpt", ".skops"

_RUNS = "runs"
_IDENTITY = "run.json"
# The name of a sweep's candidate or of one of its trainings, and maybe that of the study.
_CANDIDATE = re.compile(r"(?P<name>[^:/]+-\d+(-seed\d+)?)(:(?P<study>[^:/]+))?")


class _Part:
    """The path of a part of a run's folder, as an attribute."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, owner: type | None = None) -> Path:
        return run.path / self.name


# Candidates that a message names.
_MOST_NAMES = 10


@dataclass(frozen=True)
class RunFolder:
    """`<output_dir>/runs/<name>`; the name has no character that a shell or Hydra would read.

    Attributes:
        path: absolute.
        run_id: 32 hex digits, known before any tracker is reached.
        name: of the run, shown to people.
    """

    path: Path
    run_id: str
    name: str

    config = _Part("config.yaml")
    checkpoints = _Part("checkpoints")
    predictions = _Part("predictions")
    figures = _Part("figures")
    exports = _Part("exports")
    earlier_exports = _Part(".exports-old")
    exports_lock = _Part(".exports.lock")
    model_card = _Part("model_card.md")
    split = _Part("split.csv")
    suspects = _Part("suspects.csv")
    summary = _Part("summary.json")

    @property
    def output_dir(self) -> Path:
        return self.path.parent.parent

    def place_overrides(self) -> list[str]:
        """Return the overrides with which a later command finds the run's code and folder."""
        return [*plugin_overrides(), *output_overrides(self.output_dir)]

    def plain_settings(self) -> Any:
        """Return the settings as they are written, nested and not checked.

        Raises:
            OSError: their file cannot be read.
            UnicodeDecodeError, yaml.YAMLError: it is damaged.
        """
        try:
            return read_yaml(self.config.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise yaml.YAMLError(f"{self.config} is damaged, {error}") from error

    def take_back_exports(self) -> None:
        """Put earlier exports back, or remove them, where a kill left them beside new ones."""
        if not self.earlier_exports.is_dir():
            return
        # If the disk refuses, or an export is just ending, they stay where they are.
        with suppress(OSError), if_free(self.exports_lock) as free:
            if free and not self.exports.is_dir():
                self.earlier_exports.rename(self.exports)
            elif free:
                shutil.rmtree(self.earlier_exports)

    def answers(self, part: str) -> list[Path]:
        """Return the files of predictions of a part that are one model's answer a picture.

        One, or one for each repeat of a cross-validation: the mean over repeats, `val.parquet`, is
        that of several models, and better than any one of them.
        """
        repeats = self.predictions.glob(f"{part}-repeat*.parquet")
        return sorted(repeats, key=lambda file: (len(file.name), file)) or [
            self.predictions / f"{part}.parquet"
        ]

    @classmethod
    def create(cls, output_dir: Path, model: str, data: str) -> RunFolder:
        """Make the folder of a new run.

        Raises:
            OSError: it cannot be made; nothing of it is left.
        """
        run_id = uuid.uuid4().hex
        # In UTC, since runs are put in order of time by their names.
        now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        name = f"{plain_name(model)}-{plain_name(data)}-{now}-{run_id[:6]}"
        path = output_dir.absolute() / _RUNS / name
        path.mkdir(parents=True)
        try:
            write_atomically(path / _IDENTITY, json.dumps({"run_id": run_id, "name": name}) + "\n")
        except OSError:  # such as of a full disk, on which an empty folder still finds room
            shutil.rmtree(path, ignore_errors=True)
            raise
        return cls(path, run_id, name)

    @staticmethod
    def record_folders(path: Path) -> list[Path]:
        """Return the folders of a run whose files are read by other commands."""
        return [path, *(path / name for name in ("checkpoints", "predictions", "tracking"))]

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run of an existing folder.

        Raises:
            ValueError: it is no run's folder, or has what is no file among its files.
        """
        refuse_odd_files(*cls.record_folders(path))
        match read_json(path / _IDENTITY):
            case {"run_id": str(run_id), "name": str(name)}:
                folder = cls(path.absolute(), run_id, name)
                folder.take_back_exports()
                return folder
        if (path / _IDENTITY).exists():
            raise ValueError(f"{path} cannot be read as a run: its {_IDENTITY} is damaged")
        raise ValueError(f"{path} is not the folder of a run (it has no {_IDENTITY})")

    @classmethod
    def find(cls, run: str, output_dir: Path) -> RunFolder:
        """Return the run with this folder, id (the tracker's or our own) or name.

        `champion` is the champion of the only data set that has one, `champion:DATA` that of DATA.
        A sweep's candidate, `cnn-12` or `cnn-12:STUDY`, stands for its training with the lowest
        seed that did not choose it, `cnn-12-seed3` for that with seed 3.

        Raises:
            ValueError: there is none, or the name could mean several.
        """
        return cls.find_all(run, output_dir)[0]

    @classmethod
    def find_all(cls, run: str, output_dir: Path) -> list[RunFolder]:
        """Return the runs that a name means: of a sweep's candidate all that `find` chooses from.

        Raises:
            ValueError: as `find`.
        """
        runs = output_dir.absolute() / _RUNS
        for path in (Path(run), runs / run):
            if (path / _IDENTITY).exists():
                return [cls.open(path)]
        if (champion := find_champion(run, output_dir)) is not None:
            if not (runs / champion.run / _IDENTITY).is_file():
                raise ValueError(
                    f"{champion.run}, the champion of {champion.data}, is not in {runs} any more: "
                    "choose another with python -m src.select"
                )
            return [cls.open(runs / champion.run)]
        if trainings := _of_candidate(run, output_dir):
            return trainings
        folders = [path.parent for path in runs.glob(f"*/{_IDENTITY}")]
        for folder in folders:
            if read_json(folder / _IDENTITY).get("run_id") == run:
                return [cls.open(folder)]
        for folder in folders:
            tracked = read_json(folder / "tracking" / "mirror.json").get("mlflow_run_id")
            if run in (tracked, read_json(folder / "summary.json").get("run_id")):
                return [cls.open(folder)]
        names = nearest(run, [folder.name for folder in folders])
        raise ValueError(
            f"there is no run {run!r}{names}: give the folder of a run, the id or name of one "
            f"under {runs}, a candidate of a sweep ({_some_candidates(run, output_dir)}), or "
            "champion"
        )

    @classmethod
    def at(cls, noted: Path, output_dir: Path) -> RunFolder | None:
        """Return the run whose folder was noted: in the output folder, or else where it was noted.

        A folder may have been moved or copied since, and of a copy the original stays as it is.
        None where the run is gone.
        """
        for path in (output_dir.absolute() / _RUNS / noted.name, noted):
            if (path / _IDENTITY).is_file():
                return cls.open(path)
        return None

    def chosen_checkpoint(self) -> Path:
        """Return the checkpoint that the summary names, or the last one where there is no summary.

        Raises:
            ValueError: there is none.
        """
        named = read_json(self.summary).get("checkpoint")
        # The name alone counts: the folder may have been moved since the summary was written.
        file = Path(named).name if isinstance(named, str) else "last.ckpt"
        if not (self.checkpoints / file).is_file():
            if (self.path / FOLDS).is_file():
                raise ValueError(
                    f"{self.name} is a cross-validation, which leaves a model for each fold and "
                    f"none of all pictures: {command('select', f'run={self.name}', 'refit=true')} "
                    f"trains one, and {self.path / FOLDS} lists the runs of the folds"
                )
            raise ValueError(f"{self.path} has no checkpoint")
        return self.checkpoints / file

    def model_file(self, variant: str | None) -> Path:
        """Return the chosen checkpoint for None, else the bundle of an exported variant.

        `chosen` is the variant that the export chose, which may be the checkpoint.

        Raises:
            ValueError: there is none.
        """
        if variant == "chosen":
            record = read_json(self.exports / "export.json")
            if "chosen" not in record:
                raise ValueError(self._without_variant("has not been exported"))
            variant = record["chosen"]
        if variant is None:
            return self.chosen_checkpoint()
        bundle = self.exports / str(variant)
        if not (bundle / "digest.txt").is_file():
            raise ValueError(self._without_variant(f"has no variant {variant}"))
        return bundle

    def not_exported(self) -> str | None:
        """Return which part of the run's model exported files cannot compute.

        None where there is none, or where it shows once the model is loaded.

        Raises:
            ConfigError, OSError, UnicodeDecodeError, yaml.YAMLError: the settings are damaged.
        """
        suffix = self.chosen_checkpoint().suffix
        if suffix == NETWORK:
            return None
        model = stored_settings(self.plain_settings()).model
        if isinstance(model, HandcraftedSettings):
            return "hand-crafted features"
        if not isinstance(model, EmbeddingSettings):
            return "a classifier of pixels" if suffix == CLASSIFIER else "a combination of models"
        kinds = [model.classifier]
        if model.classifier == "auto":
            kinds = _chosen_classifiers(self.path / "model")
        return next((f"model.classifier={one}" for one in kinds if one not in EXPORTED), None)

    def _without_variant(self, what: str) -> str:
        """Return that the run lacks a variant, and the remedy."""
        if part := self.not_exported():
            return f"{self.name} has no variants, for no file can compute {part}: leave variant out"
        export = command("export", f"run={self.name}", *self.place_overrides())
        return f"{self.name} {what}: {export} makes it"


def _chosen_classifiers(bundle: Path) -> list[str]:
    """Return the kinds of classifiers that searches have chosen; [] where the bundle is damaged."""
    try:
        record = read_metadata(bundle)["classifier"]
        return [one["settings"]["classifier"] for one in record.get("problems", [record])]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []


def open_folder(settings: RunSettings) -> RunFolder:
    """Make the folder of a new run, or return that of the run to resume.

    Raises:
        DiskRefuses: there is no room for it.
        ConfigError: it cannot be made, or a measurement of the test part could not be counted.
    """
    if settings.evaluate_test:  # not only at the run's end
        refuse_uncountable(Path(settings.output_dir))
    if settings.resume is not None:
        return RunFolder.open(Path(settings.resume))
    try:
        return RunFolder.create(Path(settings.output_dir), settings.model.name, settings.data.name)
    except OSError as error:
        reason = refusal(error, settings.output_dir) or error.strerror
        raise not_written(error, f"output_dir is {settings.output_dir!r}: {reason}.") from error


def finished_summary(folder: RunFolder) -> RunSummary | None:
    """Return the summary of a finished run, which may have been moved; None for any other."""
    try:
        summary = RunSummary.read(folder.summary)
    except (OSError, ValueError):
        return None
    here = replace(summary, run_dir=str(folder.path))
    return here if summary.status == "FINISHED" else None


def refuse_unfinished(folder: RunFolder) -> None:
    """Refuse a run whose weights are not those that it will have, or has no end to be measured by.

    Raises:
        ValueError: the message is a clause with the remedy.
    """
    if finished_summary(folder) is not None:
        return
    if is_being_written(folder.path):
        raise ValueError(f"{folder.name} is still being trained: wait until it has ended")
    if lost := changed_since(folder.path, [folder.summary.name]):
        raise ValueError(f"{lost}: put the original back, or train again")
    line = command("train", *plugin_overrides(), f"resume={folder.path}")
    why = ""
    with suppress(OSError, ValueError):
        why = f" ({RunSummary.read(folder.summary).reason})"
    raise ValueError(f"{folder.name} did not finish{why}: {line} goes on with it")


def trained_run(run: str, output_dir: Path) -> tuple[RunFolder, Path]:
    """Return a run that has ended, by what `RunFolder.find` takes, and its chosen checkpoint.

    Raises:
        ValueError: there is none, it has no model of its own, or it has not ended.
    """
    folder = RunFolder.find(run, output_dir)
    checkpoint = folder.chosen_checkpoint()
    refuse_unfinished(folder)
    return folder, checkpoint


def drop_checkpoints(run_dir: Path) -> None:
    """Delete the checkpoints of a run; its seal, where it has one, holds without them.

    Raises:
        ValueError: the seal is damaged.
    """
    with amending(run_dir, "checkpoints/*"):
        shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)


def predict_command(run: str, target: str, *overrides: str) -> str:
    """Return a command that predicts pictures, in which a person replaces the words in capitals.

    Args:
        run: as `predict` takes it.
        target: of the run, `data.target`.
        overrides: of the command, beside.
    """
    out = "out=MASKS" if kind_of(target).pixels else "out=labels.csv"
    return command("predict", f"run={run}", "images=FOLDER", out, *overrides)


def _of_candidate(reference: str, output_dir: Path) -> list[RunFolder]:
    """Return the trainings of the candidate that a reference names; [] if it names none.

    Raises:
        ValueError: it could mean candidates of several studies, or a study's record is damaged.
    """
    match = _CANDIDATE.fullmatch(reference)
    if match is None:
        return []
    name, found = match["name"], {}
    for study in sorted(path.name for path in (output_dir / "sweeps").glob(match["study"] or "*")):
        with suppress(FileNotFoundError):
            if places := trainings_of(read_sweep_record(sweep_file(output_dir, study)), name):
                found[study] = places
    if len(found) > 1:
        raise ValueError(
            f"{name} is ambiguous: use one of {', '.join(f'{name}:{one}' for one in found)}"
        )
    places = next(iter(found.values()), [])
    folders = [run for one in places if (run := RunFolder.at(Path(one), output_dir)) is not None]
    if places and not folders:
        raise ValueError(f"the runs of {reference} are gone: {places[0]} was the first of them")
    return folders


def _some_candidates(reference: str, output_dir: Path) -> str:
    """Return some candidates of the study in a reference, or of all, as in "mlp-0, cnn-12"."""
    names = candidate_names(output_dir, study=reference.partition(":")[2])
    more = ", ..." if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more if names else "such as cnn-12"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} where there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
