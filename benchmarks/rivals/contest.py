"""The contest: every set and seed, who was how good, and what of it can be told apart.

The pictures come from the folder that BAKEOFF_PHOTOS names (benchmarks/photo_sets.py), elpv from
the package index. BAKEOFF_PHOTO_SETS=clothing,cifar10 BAKEOFF_SEEDS=0,1 BAKEOFF_MINUTES=2 measure
some of it. Each answer is kept as JSON in the cache folder, so that an interrupted measurement goes
on where it was; a digest in its name says which code and which CPU seconds it came from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.commands import digest_of, kept_answer
from benchmarks.photo_sets import PHOTO_SETS, photo_set
from benchmarks.rivals.contestants import ask_rival, race
from benchmarks.rivals.differences import Difference, compare
from benchmarks.rivals.environment import fastai_python, fetch_package, weight_files
from benchmarks.rivals.parts import Parts, deal
from benchmarks.rivals.protocol import Answer, Request
from benchmarks.table import Row
from src.machine.parallel import available_cores
from src.machine.subprocesses import ROOT
from src.storage.cache import cache_folder

__all__ = ["measure_rivals"]

RACE, FASTAI, SKLEARN = "the race's pick", "fastai", "scikit-learn"
_HERE = Path(__file__).parent
# What an answer comes from; one that came from other code is no part of the table.
_RACE_CODE = [ROOT / "src", ROOT / "conf", ROOT / "sweeps"]
_SHARED_CODE = [_HERE / "contestants.py", _HERE / "parts.py", _HERE / "protocol.py"]


@dataclass(frozen=True)
class Round:
    """One set and seed: the parts and every contestant's answer, by name."""

    seed: int
    parts: Parts
    answers: Mapping[str, Answer]

    def accuracy(self, name: str) -> float:
        """Return a contestant's accuracy on the test part, in [0, 1]."""
        right = self.parts.right(self.answers[name].labels).values()
        return sum(right) / len(right)


def measure_rivals() -> list[Row]:
    """Return a row for each set and rival."""
    sets = _listed("BAKEOFF_PHOTO_SETS", "clothing,cifar10,tiles,elpv")
    seeds = [int(seed) for seed in _listed("BAKEOFF_SEEDS", "0,1,2")]
    minutes = [float(limit) for limit in _listed("BAKEOFF_MINUTES", "2")]
    if unknown := [name for name in sets if name not in PHOTO_SETS]:
        sys.exit(f"there is no set {', '.join(unknown)}: choose of {', '.join(PHOTO_SETS)}")
    work = cache_folder(None).absolute() / "rivals"
    fastai = fastai_python(work / "fastai")
    weights = weight_files(work / "weights")
    rows = []
    for name in sets:
        if name == "elpv":
            fetch_package("elpv-dataset", work / "elpv-dataset")
        pictures = photo_set(name, work / "sets")
        for limit in minutes:
            rounds = []
            for seed in seeds:
                parts = deal(name, pictures, work / "parts" / f"{name}-{seed}", seed)
                kept = work / "answers" / f"{name}-{limit:g}-{seed}"
                answers = _answers(parts, limit, seed, kept, weights, fastai)
                rounds.append(Round(seed, parts, answers))
            rows += _rows(f"{name}, {limit:g} minutes", rounds)
    return rows


def _answers(
    parts: Parts,
    minutes: float,
    seed: int,
    kept: Path,
    weights: Mapping[str, str],
    fastai: Path,
) -> dict[str, Answer]:
    """Return every contestant's answer: the race's first, whose CPU seconds the others get."""
    scratch = kept.parent / "scratch"
    file = kept / f"race-{digest_of([*_RACE_CODE, *_SHARED_CODE])}.json"
    answers = {RACE: kept_answer(file, Answer, partial(race, parts, minutes, seed, scratch))}
    given = answers[RACE].cpu_seconds
    request = Request(parts.known, parts.test, weights, given, seed, threads=1)
    rivals = {FASTAI: ("tune_fastai", fastai), SKLEARN: ("fit_heads", Path(sys.executable))}
    # One thread each and side by side, as the race's slots: a second thread costs more CPU seconds
    # for the same work.
    with ThreadPoolExecutor(available_cores()) as pool:
        futures = {}
        for name, (module, python) in rivals.items():
            code = [file, _HERE / f"{module}.py", *_SHARED_CODE]
            futures[name] = pool.submit(
                kept_answer,
                kept / f"{module}-{digest_of(code)}.json",
                Answer,
                partial(ask_rival, module, request, scratch, python),
            )
        return answers | {name: future.result() for name, future in futures.items()}


def _rows(what: str, rounds: Sequence[Round]) -> list[Row]:
    right = {
        name: [found.parts.right(found.answers[name].labels) for found in rounds]
        for name in (RACE, FASTAI, SKLEARN)
    }
    _print(what, rounds)
    rows = []
    for rival in (FASTAI, SKLEARN):
        found = compare(right[RACE], right[rival])
        ours, theirs = (_mean(rounds, name) for name in (RACE, rival))
        rows.append(
            Row(
                f"{what}, {len(rounds)} seeds, {RACE} against {rival} in the same CPU seconds: "
                "test accuracy, difference and its standard error",
                f"{100 * ours:.1f} % to {100 * theirs:.1f} %, {_points(found)}",
                "not behind by more than a standard error",
                not found.is_behind,
            )
        )
    return rows


def _print(what: str, rounds: Sequence[Round]) -> None:
    """Print what each contestant came to, in each seed."""
    table = Table(title=what, title_justify="left")
    for column in ("seed", "contestant", "validation", "test", "CPU seconds", "chosen"):
        table.add_column(column, overflow="fold")
    for found in rounds:
        for name, answer in found.answers.items():
            table.add_row(
                str(found.seed),
                name,
                f"{100 * answer.validation:.1f} %",
                f"{100 * found.accuracy(name):.1f} %",
                f"{answer.cpu_seconds:.0f}",
                answer.chosen,
            )
    Console().print(table)


def _mean(rounds: Sequence[Round], name: str) -> float:
    return sum(found.accuracy(name) for found in rounds) / len(rounds)


def _points(found: Difference) -> str:
    return f"{100 * found.mean:+.1f} points, standard error {100 * found.standard_error:.1f}"


def _listed(variable: str, usual: str) -> list[str]:
    return os.environ.get(variable, usual).split(",")
