"""Runs that never had a seal, to be changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from src.records.run import RunSummary
from src.runs.folder import RunFolder
from src.runs.seal import break_seal

__all__ = ["copied", "unseal"]


def unseal(folder: Path) -> None:
    """Let the run in a folder never have had a seal."""
    break_seal(folder)
    file = folder / "summary.json"
    replace(RunSummary.read(file), sealed=False).write(file)


def copied(folder: RunFolder, name: str) -> RunFolder:
    """A copy of a run beside it, with a name and an id of its own and without a seal."""
    path = folder.path.parent / name
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(folder.path, path)
    (path / "run.json").write_text(json.dumps({"run_id": name * 4, "name": name}))
    unseal(path)
    return RunFolder.open(path)
