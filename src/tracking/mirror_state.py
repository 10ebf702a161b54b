"""The progress of sending each run to MLflow, kept in the run folder."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..storage.files import write_atomically
from .events import spool_path

__all__ = ["MirrorState", "is_mirrored"]


def is_mirrored(run_dir: Path, target: str | None) -> bool:
    """Return whether all of the spool was sent to `target`, by what is recorded in the folder."""
    return MirrorState.read(run_dir, target).is_whole(run_dir)


@dataclass
class MirrorState:
    """The progress of sending a run, kept beside its spool; if lost, sending again changes nothing.

    Attributes:
        target: public tracking URI, None for the database in the output folder.
        offset: byte of the spool up to which all events are sent.
        status: the run's end as sent (FINISHED, FAILED, KILLED), None while it goes on.
        pending: events of artifacts and models that could not be sent yet.
        unsupported: events of models that the server, of an earlier MLflow, cannot take.
        versions: numbers of the run's model, by name of the registered model.
    """

    target: str | None
    mlflow_run_id: str | None = None
    offset: int = 0
    status: str | None = None
    pending: list[dict[str, Any]] = field(default_factory=list)
    unsupported: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, run_dir: Path, target: str | None) -> MirrorState:
        """Return the state kept for `target`, or a new one where none is kept."""
        try:
            state = cls(**json.loads(_state_path(run_dir).read_bytes()))
        except (OSError, ValueError, TypeError):
            return cls(target)
        return state if state.target == target else cls(target)

    def write(self, run_dir: Path) -> None:
        """Keep it; where that fails (a full disk), events are only sent again."""
        with suppress(OSError):
            write_atomically(_state_path(run_dir), json.dumps(asdict(self)) + "\n")

    def is_whole(self, run_dir: Path) -> bool:
        """Return whether all of the spool was sent, with the run's end and every file."""
        if self.status is None or self.pending:
            return False
        try:
            return self.offset == spool_path(run_dir).stat().st_size
        except FileNotFoundError:
            return False


def _state_path(run_dir: Path) -> Path:
    return run_dir / "tracking" / "mirror.json"
