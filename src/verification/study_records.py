"""Verification of a study's journal against its record: what one of them has lost since."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ..machine.yaml_text import read_yaml
from ..records.trials import COMPLETE, FAILED, PRUNED
from ..search.storage import operation_of
from ..storage.digests import DamagedLine, line_content
from .runs import Fault

__all__ = ["verify_record"]

# Optuna's operations on a study and on trials, and its numbers of their final states.
_STUDY_ATTRIBUTE, _CREATE_TRIAL, _SET_STATE = 2, 4, 6
_STATES = {1: COMPLETE, 2: PRUNED, 3: FAILED}
_REFITS = "refits"
_REMEDY = (
    "put a copy of it back; the sweep's own command goes on from what it holds, and writes "
    "sweep.json anew"
)


def verify_record(folder: Path) -> Iterator[Fault]:
    """Yield what a study's journal lacks of what sweep.json says that it held.

    Nothing where either is damaged, which is told apart, or where the study is in a database.
    """
    journal = folder / "study.journal"
    try:
        recorded = line_content((folder / "sweep.json").read_bytes())
        trials, finalists = list(recorded["trials"]), list(recorded.get("finalists", []))
        operations = [operation_of(line) for line in journal.read_bytes().splitlines()]
    except FileNotFoundError as error:
        if Path(error.filename) == journal and trials and _keeps_journal(folder):
            yield Fault(journal, f"it is gone, with {len(trials)} trials", _REMEDY)
        return
    except (OSError, DamagedLine, KeyError, TypeError):
        return
    if what := _lost_trials(trials, operations) or _lost_finalists(finalists, operations):
        yield Fault(journal, what, _REMEDY)


def _keeps_journal(folder: Path) -> bool:
    """Whether a study is in its folder, and not in a database."""
    try:
        settings = read_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(settings, dict) and settings.get("storage", "") is None


def _lost_trials(trials: list[Any], operations: list[dict[str, Any]]) -> str | None:
    count = sum(operation["op_code"] == _CREATE_TRIAL for operation in operations)
    most = max((int(trial["number"]) + 1 for trial in trials), default=0)
    if count < most:
        return f"it has {count} trials, and sweep.json tells of {most}: its end was lost"
    ends = {
        operation["trial_id"]: _STATES[operation["state"]]
        for operation in operations
        if operation["op_code"] == _SET_STATE and operation["state"] in _STATES
    }
    # A trial that failed by itself may have been tried again since.
    others = [
        trial
        for trial in trials
        if trial["state"] in (COMPLETE, PRUNED) and ends.get(trial["number"]) != trial["state"]
    ]
    if not others:
        return None
    first = others[0]
    there = ends.get(first["number"], "not ended")
    more = f" (and {len(others) - 1} more)" if others[1:] else ""
    return f"trial {first['number']} is {there} in it, and {first['state']} in sweep.json{more}"


def _lost_finalists(finalists: list[Any], operations: list[dict[str, Any]]) -> str | None:
    known: dict[str, Any] = {}
    for operation in operations:
        if operation["op_code"] == _STUDY_ATTRIBUTE:
            known = operation.get("user_attr", {}).get(_REFITS, known)
    for finalist in finalists:
        lost = finalist["run_dirs"].keys() - known.get(str(finalist["trial"]), {}).keys()
        if lost:
            return (
                f"it lacks the training of finalist {finalist['trial']} with seed {min(lost)}, of "
                "which sweep.json tells: its end was lost"
            )
    return None
