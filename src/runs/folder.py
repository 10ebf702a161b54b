"""The folder of one run: where its parts lie, what it is called, and how it is found again."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..records.champions import find_champion, plain_name
from ..storage.files import write_atomically

__all__ = ["FOLDS", "RunFolder"]

# In the folder of a cross-validation and in no other: the run of each fold.
FOLDS = "folds.json"

_RUNS = "runs"
_IDENTITY = "run.json"


class _Part:
    """The path of a part of a run's folder, as an attribute."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, owner: type | None = None) -> Path:
        return run.path / self.name


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
    split = _Part("split.csv")
    suspects = _Part("suspects.csv")
    summary = _Part("summary.json")

    @property
    def output_dir(self) -> Path:
        return self.path.parent.parent

    @classmethod
    def create(cls, output_dir: Path, model: str, data: str) -> RunFolder:
        """Make the folder of a new run.

        Raises:
            OSError: it cannot be made.
        """
        run_id = uuid.uuid4().hex
        now = time.strftime("%Y%m%d-%H%M%S")
        name = f"{plain_name(model)}-{plain_name(data)}-{now}-{run_id[:6]}"
        path = output_dir.absolute() / _RUNS / name
        path.mkdir(parents=True)
        write_atomically(path / _IDENTITY, json.dumps({"run_id": run_id, "name": name}) + "\n")
        return cls(path, run_id, name)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return the run of an existing folder.

        Raises:
            ValueError: it is no run's folder.
        """
        match _read_json(path / _IDENTITY):
            case {"run_id": str(run_id), "name": str(name)}:
                return cls(path.absolute(), run_id, name)
        raise ValueError(f"{path} is not the folder of a run (it has no {_IDENTITY})")

    @classmethod
    def find(cls, run: str, output_dir: Path) -> RunFolder:
        """Return the run with this folder, id (the tracker's or our own) or name.

        `champion` is the champion of the only data set that has one, `champion:DATA` that of DATA.

        Raises:
            ValueError: there is none.
        """
        runs = output_dir.absolute() / _RUNS
        for path in (Path(run), runs / run):
            if (path / _IDENTITY).is_file():
                return cls.open(path)
        if (champion := find_champion(run, output_dir)) is not None:
            if not (runs / champion.run / _IDENTITY).is_file():
                raise ValueError(
                    f"{champion.run}, the champion of {champion.data}, is not in {runs} any more: "
                    "choose another with python -m src.select"
                )
            return cls.open(runs / champion.run)
        folders = [path.parent for path in runs.glob(f"*/{_IDENTITY}")]
        for folder in folders:
            if _read_json(folder / _IDENTITY).get("run_id") == run:
                return cls.open(folder)
        for folder in folders:
            tracked = _read_json(folder / "tracking" / "mirror.json").get("mlflow_run_id")
            if run in (tracked, _read_json(folder / "summary.json").get("run_id")):
                return cls.open(folder)
        raise ValueError(
            f"there is no run {run!r}: give the folder of a run, the id or name of one under "
            f"{runs}, or champion"
        )

    def chosen_checkpoint(self) -> Path:
        """Return the checkpoint that the summary names, or the last one where there is no summary.

        Raises:
            ValueError: there is none.
        """
        named = _read_json(self.summary).get("checkpoint")
        # The name alone counts: the folder may have been moved since the summary was written.
        file = Path(named).name if isinstance(named, str) else "last.ckpt"
        if not (self.checkpoints / file).is_file():
            if (self.path / FOLDS).is_file():
                raise ValueError(
                    f"{self.name} is a cross-validation, which has no model of its own: name the "
                    f"run of a fold, which {self.path / FOLDS} lists, or train without cv.folds"
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
            record = _read_json(self.exports / "export.json")
            if "chosen" not in record:
                raise ValueError(f"{self.name} has not been exported: python -m src.export does it")
            variant = record["chosen"]
        if variant is None:
            return self.chosen_checkpoint()
        bundle = self.exports / str(variant)
        if not (bundle / "digest.txt").is_file():
            raise ValueError(f"{self.name} has no variant {variant}: python -m src.export makes it")
        return bundle


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
