"""Verification of studies, and of an output folder's own files.

Journals are checked by themselves, and against the record of the study: what one of them has lost.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ..machine.package import command
from ..machine.regular_files import odd_file
from ..machine.yaml_text import read_yaml
from ..records.trials import COMPLETE, FAILED, PRUNED
from ..search.storage import NOTED, operation_of
from ..storage.digests import DamagedLine, checked_line, line_content
from ..storage.locks import if_free
from ..tracking.mlflow_database import JOURNALS
from .runs import Fault, find_damaged_lines, verify_spool

__all__ = ["is_running", "verify_json", "verify_output", "verify_study"]

# Optuna's operations on a study and on trials, and its numbers of their final states.
_CREATE_STUDY, _SET_STUDY_ATTRIBUTE, _CREATE_TRIAL, _SET_STATE = 0, 3, 4, 6
_STATES = {1: COMPLETE, 2: PRUNED, 3: FAILED}
_FAILED = 3
# What says nothing of the content: another process writes it, or this one may not.
_NOT_JUDGED = {
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR),
}
_JOURNAL, _LOCK = "study.journal", "driver.lock"
_REFITS = "refits"
_COPY = (
    "put a copy of it back; the sweep's own command goes on from what it holds, and writes "
    "sweep.json anew"
)


def verify_study(folder: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the faults of a study's folder; `repair` puts damaged lines aside."""
    if odd := odd_file(folder, folder / "tracking"):
        yield Fault(*odd, "remove it, and put a copy of the file back")
        return
    with if_free(folder / _LOCK) as free:
        if not free:
            return  # its driver runs, and has checked the folder
        yield from _journal(folder / _JOURNAL, repair=repair)
        again = "the sweep's own command writes it anew"
        yield from verify_json(folder / "sweep.json", again)
        yield from verify_json(folder / "command.json", again)
        yield from _lost(folder)
        yield from verify_spool(folder, repair=repair)


def is_running(folder: Path) -> bool:
    """Return whether a driver has the study of a folder open."""
    with if_free(folder / _LOCK) as free:
        return not free


def verify_output(output_dir: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the faults of an output folder's counts, champions and database of MLflow."""
    if odd := odd_file(output_dir, output_dir / "champions"):
        yield Fault(*odd, "remove it, and put a copy of the file back")
        return
    path = output_dir / "test_measurements.jsonl"
    damaged = find_damaged_lines(path, partial(line_content, strict=True))
    for number, reason in damaged.reasons.items() if damaged else ():
        counted = "it counts as a measurement of every test part; put a copy of the file back"
        yield Fault(path, f"line {number} is damaged ({reason})", counted)
    for file in sorted((output_dir / "champions").glob("*.json")):
        yield from verify_json(file, "python -m src.select run=RUN writes it anew")
    yield from _database(output_dir / "mlflow.db", repair=repair)


def _database(path: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield what SQLite finds wrong with a database; it keeps no digest of the values in it."""
    if not path.is_file():
        return
    try:
        found = _integrity(path, "rw" if repair else "ro")
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0)
        if code == sqlite3.SQLITE_READONLY_ROLLBACK and not repair:
            found = _integrity_of_copy(path)
        elif code & 0xFF in _NOT_JUDGED:
            return
        else:
            found = str(error)
    if found != "ok":
        beside = ", ".join(path.name + end for end in JOURNALS)
        what = f"it and what is there of {beside}"  # SQLite would mix these into the new one
        replay = command("replay", f"output_dir={path.parent}")
        yield Fault(path, found.replace("\n", " "), f"move {what} away, and {replay} makes it anew")


def _integrity(path: Path, mode: str) -> str:
    """Return what SQLite finds wrong with a file, or "ok".

    Opened for writing ("rw") it takes back what a process that was killed had written of a change.
    """
    with closing(sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=0)) as database:
        ((found,),) = database.execute("PRAGMA integrity_check(1)")
    return str(found)


def _integrity_of_copy(path: Path) -> str:
    """Return what `_integrity` says once a change that was cut off is taken back, in a copy."""
    try:
        with TemporaryDirectory() as scratch:
            for name in (path.name, *(path.name + end for end in JOURNALS)):
                with suppress(FileNotFoundError):
                    shutil.copyfile(path.with_name(name), Path(scratch, name))
            return _integrity(Path(scratch, path.name), "rw")
    except sqlite3.DatabaseError as error:
        return str(error)
    except OSError:  # which says nothing of the content
        return "ok"


def verify_json(path: Path, remedy: str) -> Iterator[Fault]:
    """Yield the fault of a file of `checked_json` that is not what was written."""
    try:
        line_content(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, DamagedLine) as error:
        yield Fault(path, str(error), remedy)


def _journal(path: Path, *, repair: bool) -> Iterator[Fault]:
    damaged = find_damaged_lines(path, operation_of)
    if damaged is None:  # or the study is in a database
        return
    try:
        kept, lost = _without(damaged.lines, damaged.reasons.keys())
    except ValueError as error:
        remedy = f"it cannot be repaired, since {error}: begin a new study"
        yield Fault(path, damaged.what, remedy)
        return
    trials = f"trial {', '.join(map(str, lost))}" if lost else "no trial"
    if not repair:
        remedy = f"repair=true puts it aside; {trials} would count as failed"
        yield Fault(path, damaged.what, remedy)
        return
    aside = damaged.put_aside(b"".join(map(checked_line, kept)))
    yield Fault(path, damaged.what, f"put aside in {aside}; {trials} counts as failed", True)


def _without(lines: list[bytes], damaged: Any) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the operations of the whole lines of a journal, and the trials that count as failed.

    A trial's number is the place of its creation among all creations: where a damaged line was a
    creation, which later operations show, an empty trial is created instead. Trials that were
    running at a damaged line may lack anything, so they fail.

    Raises:
        ValueError: the creation of the study is lost, or of more trials than there are damaged
            lines.
    """
    kept: list[dict[str, Any] | None] = []  # None where a line is missing
    places: list[int] = []  # in `kept`, of the creations in order
    for number, line in enumerate(lines, start=1):
        if number in damaged:
            kept.append(None)
            continue
        operation = operation_of(line)
        while "trial_id" in operation and operation["trial_id"] >= len(places):
            gaps = [place for place, one in enumerate(kept) if one is None]
            if not gaps:
                raise ValueError("an operation names a trial that was never begun")
            study = next((one["study_id"] for one in kept if one and "study_id" in one), 0)
            kept[gaps[-1]] = _operation(_CREATE_TRIAL, "datetime_start", study_id=study)
            places = [p for p, one in enumerate(kept) if _creates(one)]
        if operation["op_code"] == _CREATE_TRIAL:
            places.append(len(kept))
        kept.append(operation)
    if not any(one is not None and one["op_code"] == _CREATE_STUDY for one in kept):
        raise ValueError("the line that begins the study is lost")
    lost = _running_at_gaps(kept, places, [number - 1 for number in damaged])
    return [*_failing([one for one in kept if one is not None], lost)], sorted(lost)


def _creates(operation: dict[str, Any] | None) -> bool:
    return operation is not None and operation["op_code"] == _CREATE_TRIAL


def _operation(code: int, when: str, **fields: Any) -> dict[str, Any]:
    """Return an operation of now, whose time has the key `when`."""
    now = datetime.now().astimezone().isoformat(timespec="microseconds")
    return {"op_code": code, "worker_id": "verify", **fields, when: now}


def _running_at_gaps(
    kept: list[dict[str, Any] | None], places: list[int], gaps: list[int]
) -> set[int]:
    """Return the trials that were running at a missing line, or were begun there."""
    ends = {
        one["trial_id"]: place for place, one in enumerate(kept) if one is not None and _ends(one)
    }
    return {
        trial
        for gap in gaps
        for trial, place in enumerate(places)
        if place <= gap and ends.get(trial, len(kept)) > gap
    }


def _ends(operation: dict[str, Any]) -> bool:
    return operation["op_code"] == _SET_STATE and operation["state"] in _STATES


def _failing(kept: list[dict[str, Any]], lost: set[int]) -> Iterator[dict[str, Any]]:
    """Yield the operations, with the lost trials ending as failed."""
    still, failed = set(lost), {"state": _FAILED, "values": None}
    for one in kept:
        if _ends(one) and one["trial_id"] in lost:
            still.discard(one["trial_id"])
            one = one | failed
        yield one
    for trial in sorted(still):
        yield _operation(_SET_STATE, "datetime_complete", trial_id=trial, **failed)


def _lost(folder: Path) -> Iterator[Fault]:
    """Yield what a study's journal lacks of what sweep.json says that it held.

    Nothing where either is damaged, which is reported separately, or where the study is in a
    database.
    """
    journal = folder / _JOURNAL
    try:
        recorded = line_content((folder / "sweep.json").read_bytes())
        trials, finalists = list(recorded["trials"]), list(recorded.get("finalists", []))
        operations = [operation_of(line) for line in journal.read_bytes().splitlines()]
    except FileNotFoundError as error:
        if Path(error.filename) == journal and trials and _keeps_journal(folder):
            yield Fault(journal, f"it is gone, with {len(trials)} trials", _COPY)
        return
    except (OSError, DamagedLine, KeyError, TypeError):
        return
    if what := _lost_trials(trials, operations) or _lost_finalists(finalists, operations):
        yield Fault(journal, what, _COPY)


def _keeps_journal(folder: Path) -> bool:
    """Return whether a study is in its folder, and not in a database."""
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
        if _ends(operation)
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
        if operation["op_code"] == _SET_STUDY_ATTRIBUTE:
            known = operation["system_attr"].get(NOTED + _REFITS, known)
    for finalist in finalists:
        lost = finalist["run_dirs"].keys() - known.get(str(finalist["trial"]), {}).keys()
        if lost:
            return (
                f"it lacks the training of finalist {finalist['trial']} with seed {min(lost)}, of "
                "which sweep.json tells: its end was lost"
            )
    return None
