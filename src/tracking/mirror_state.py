"""How far a run's spool has been sent: a small file beside it, and the lock of who sends it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from src.storage.files import write_atomically

__all__ = ["MirrorState", "mirror_lock"]


def mirror_lock(run_dir: Path) -> FileLock:
    """Held by the one process that sends this run's spool."""
    return FileLock(run_dir / "tracking" / "mirror.lock", thread_local=False)


@dataclass
class MirrorState:
    """What MLflow has of a run; worth little, since sending everything again changes nothing.

    Attributes:
        target: public tracking URI, None for the database in the output folder.
        mlflow_run_id: None until the run is there.
        offset: byte of the spool up to which all events are there.
        status: the run's end as sent (FINISHED, FAILED, KILLED), None while it goes on.
        pending: events of artifacts and models that could not be sent yet.
        versions: of the run's model, by name of the registered model.
    """

    target: str | None
    mlflow_run_id: str | None = None
    offset: int = 0
    status: str | None = None
    pending: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, run_dir: Path, target: str | None) -> MirrorState:
        """The state kept for `target`, or a fresh one: of another target, or where none is kept."""
        try:
            kept = json.loads(_path(run_dir).read_bytes())
            state = cls(
                kept["target"],
                kept["mlflow_run_id"],
                int(kept["offset"]),
                kept["status"],
                [dict(event) for event in kept["pending"]],
                dict(kept.get("versions", {})),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return cls(target)
        return state if state.target == target else cls(target)

    def write(self, run_dir: Path) -> None:
        """Keep it. What cannot be kept (a full disk) is only sent again."""
        try:
            write_atomically(_path(run_dir), json.dumps(asdict(self)) + "\n")
        except OSError:
            return


def _path(run_dir: Path) -> Path:
    return run_dir / "tracking" / "mirror.json"
