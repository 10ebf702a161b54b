"""Runs that never had a seal, to be changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from src.records.run import RunSummary
from src.runs.seal import break_seal

__all__ = ["unseal"]


def unseal(folder: Path) -> None:
    """Let the run in a folder never have had a seal."""
    break_seal(folder)
    file = folder / "summary.json"
    replace(RunSummary.read(file), sealed=False).write(file)
