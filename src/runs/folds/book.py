"""Which run is which fold of a cross-validation: written down, so that it can go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.runs.folder import FOLDS, RunFolder
from src.storage.files import write_atomically

__all__ = ["FoldBook"]


@dataclass
class FoldBook:
    """Kept in the folder of the whole.

    Attributes:
        file: that holds it.
        command: words that repeat the whole.
        runs: the name of each fold's run, by number from 1.
    """

    file: Path
    command: list[str]
    runs: dict[int, str] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: RunFolder, command: Sequence[str]) -> FoldBook:
        """That of a run that goes on, which was begun by another command, or a new one."""
        file = folder.path / FOLDS
        try:
            plain: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            book = cls(file, list(command))
            book._write()
            return book
        return cls(file, plain["command"], {int(n): name for n, name in plain["runs"].items()})

    def add(self, number: int, run: RunFolder) -> None:
        """Keep it, whatever happens to this process."""
        self.runs[number] = run.name
        self._write()

    def _write(self) -> None:
        plain = {"command": self.command, "runs": self.runs}
        write_atomically(self.file, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")

    def run(self, number: int) -> RunFolder | None:
        """The run of a fold; None where none has begun, or its folder is gone."""
        path = self.file.parent.parent / self.runs.get(number, "")
        return RunFolder.open(path) if number in self.runs and path.is_dir() else None

    def words(self, number: int) -> list[str]:
        """The command line that repeats one fold by hand."""
        newer = {"cv.fold": f"cv.fold={number}", "evaluate_test": "evaluate_test=false"}
        kept = [word for word in self.command if word.partition("=")[0] not in newer]
        return [*kept, *newer.values()]
