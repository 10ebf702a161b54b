"""The three contestants as processes: the race, fastai's fine-tuning, scikit-learn's heads."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.rivals.parts import Parts
from benchmarks.rivals.protocol import Answer, Request
from src.machine.subprocesses import ROOT
from src.records.champions import find_champion
from src.records.run import RunSummary
from src.runs.folder import RunFolder

__all__ = ["ask_rival", "cpu_seconds_of", "race"]

_CHAMPION = "champion"
_STUDY = "rivals"


def race(parts: Parts, minutes: float, seed: int, folder: Path) -> Answer:
    """Return the pick of `src.sweep` and `src.select`, from cold caches.

    Args:
        parts: the race is given `known` alone.
        minutes: of the race.
        seed: of the race.
        folder: for its cache and its runs, which are gone afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        output = Path(work, "out")
        place = [f"output_dir={output}", "tracking.enabled=false"]
        cold = {"BAKEOFF_CACHE": f"{work}/cache"}
        sweep = ["src.sweep", f"study={_STUDY}", "data=folder", f"data.root={parts.known}"]
        # Nothing is cut from the training part for a test that is somewhere else.
        sweep += ["data.test_fraction=0", "data.on_duplicates=drop", "evaluate_test=false"]
        sweep += [f"budget.minutes={minutes:g}", f"seed={seed}"]
        used = cpu_seconds_of([sys.executable, "-m", *sweep, *place], cold)
        select = ["src.select", f"sweep={_STUDY}"]
        swept = json.loads((output / "sweeps" / _STUDY / "sweep.json").read_text(encoding="utf-8"))
        if swept["steps"] == "folds":  # each has a model of its own, and none is of all pictures
            select.append("refit=true")
        used += cpu_seconds_of([sys.executable, "-m", *select, *place], cold)
        table = Path(work, "labels.csv")
        predict = ["src.predict", f"run={_CHAMPION}", f"images={parts.test}", f"out={table}"]
        # Not counted, as with the others: the choice is made.
        cpu_seconds_of([sys.executable, "-m", *predict, f"output_dir={output}"], cold)
        with table.open(encoding="utf-8", newline="") as file:
            labels = {Path(row["path"]).name: row["label"] for row in csv.DictReader(file)}
        champion = find_champion(_CHAMPION, output)
        assert champion is not None
        summary = RunSummary.read(RunFolder.find(champion.run, output).summary)
        # A refit has no validation part: then it is the figure that it was chosen by.
        won = next(one for one in swept["trials"] if one["number"] == swept["winner"])
        validation = summary.metrics.get("val/accuracy", won["objectives"][0])
        return Answer(labels, validation, used, champion.run)


def ask_rival(module: str, request: Request, folder: Path, python: Path) -> Answer:
    """Return what a rival answers, in a process of its own.

    Args:
        module: of benchmarks.rivals.
        request: for it.
        folder: for the files between the processes.
        python: that runs it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        asked, answered = Path(work, "request.json"), Path(work, "answer.json")
        request.write(asked)
        cpu_seconds_of(
            [str(python), "-m", f"benchmarks.rivals.{module}", str(asked), str(answered)],
            # What it would compute with otherwise before it is told; and it needs no hub.
            {"OMP_NUM_THREADS": str(request.threads), "HF_HUB_OFFLINE": "1"},
        )
        return Answer.read(answered)


def cpu_seconds_of(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Return the CPU seconds of a command, those of all the processes that it waits for included.

    It ends the measurement with what the command said, if it fails.

    Args:
        command: run in the project's checkout.
        environment: variables beside those of this process.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            end = said.read().decode(errors="replace")[-3000:]
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{end}")
    return used.ru_utime + used.ru_stime
