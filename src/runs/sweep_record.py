"""The file with a study's record, and which runs it says that a candidate has."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config.checks import input_of
from ..machine.regular_files import refuse_odd_files
from ..records.trials import candidate_name
from ..storage.digests import DamagedLine, line_content

__all__ = ["candidate_names", "read_sweep_record", "recorded_studies", "sweep_file", "trainings_of"]

_NAME = "sweep.json"


def sweep_file(output_dir: Path, study: str) -> Path:
    """Return the file with a study's record.

    Raises:
        ConfigError: the study's folder holds what is no file.
    """
    file = output_dir / "sweeps" / study / _NAME
    with input_of():
        refuse_odd_files(file.parent)
    return file


def recorded_studies(output_dir: Path) -> list[str]:
    """Return the names of the studies that have a record, in alphabetical order."""
    return sorted(file.parent.name for file in (output_dir / "sweeps").glob(f"*/{_NAME}"))


def read_sweep_record(file: Path) -> dict[str, Any]:
    """Return a study's record as plain values.

    Raises:
        FileNotFoundError: there is none.
        DamagedLine: it is damaged; the message is a clause with the remedy.
    """
    try:
        return line_content(file.read_bytes())
    except DamagedLine as error:
        raise DamagedLine(
            f"{file} is damaged ({error}): the sweep's own command writes it anew"
        ) from error


def trainings_of(record: Mapping[str, Any], name: str) -> list[str]:
    """Return the run folders of the candidate or the training that is called so in a record.

    Of a candidate they are those with seeds that did not choose it, the lowest first, or without
    any the trial; [] of what the record does not name.
    """
    finalists = {one["trial"]: one for one in record["finalists"]}
    for trial in record["trials"]:
        candidate = candidate_name(trial["family"], trial["number"])
        finalist = finalists.get(trial["number"], {"runs": {}, "run_dirs": {}})
        trainings = {
            f"{candidate}-seed{seed}": place
            for seed, place in sorted(finalist["run_dirs"].items(), key=lambda one: int(one[0]))
            if finalist["runs"].get(seed) is not None
        }
        if name == candidate:
            return [*trainings.values()] or [one for one in [trial["run_dir"]] if one]
        if name in trainings:
            return [trainings[name]]
    return []


def candidate_names(output_dir: Path, study: str) -> list[str]:
    """Return the names of the candidates of a study, or of all; a damaged record has none."""
    names: dict[str, None] = {}
    for name in recorded_studies(output_dir):
        if study in ("", name):
            with suppress(OSError, DamagedLine, LookupError):
                trials = read_sweep_record(output_dir / "sweeps" / name / _NAME)["trials"]
                names |= dict.fromkeys(candidate_name(t["family"], t["number"]) for t in trials)
    return list(names)
