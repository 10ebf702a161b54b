"""Random bits flipped in what runs, studies and stores keep: no wrong answer comes silently.

Every question that the project answers from files is asked before and after each flip, in this
process. An answer that differs must come with a refusal, a remark or a warning.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.commands import environment
from benchmarks.recorded_world import World
from benchmarks.table import Row
from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.finished import VerifySettings
from src.machine.failures import RunFailed
from src.runs.folder import RunFolder
from src.storage.cache import check_again
from src.storage.digests import file_state
from src.tracking import events
from src.verification.mlflow_models import verify_models
from src.verification.targets import verify_all

__all__ = ["Tally", "flip_bytes", "measure"]

_FLIPS = 1000
# What a refusal looks like to whoever calls; all else would be a traceback.
_REFUSALS = (ConfigError, RunFailed, ValueError, OSError)


@dataclass
class Tally:
    """What became of the flips.

    Attributes:
        wrong: answers that differed without a word, with the file and the byte.
        crashed: questions that ended in an exception of another kind, in the same way.
        unnamed: flips in sealed files that `src.verify` did not name.
        counts: flips by what they led to.
    """

    wrong: list[str] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def flip_bytes(world: World, flips: int, seed: int = 0) -> Tally:
    """Flip bytes one at a time, each put back; files take turns, so that small ones count too.

    Args:
        world: whole.
        flips: how many.
        seed: of the choice of bytes and bits.
    """
    choose, tally = random.Random(seed), Tally()
    truth = {question.name: _ask(question.ask)[0] for question in world.questions()}
    kinds: dict[str, list[Path]] = {}
    for file in world.files():
        kinds.setdefault(_kind(file), []).append(file)
    order = sorted(kinds)
    choose.shuffle(order)
    for number in range(flips):
        file = choose.choice(kinds[order[number % len(order)]])
        content, status = file.read_bytes(), file.stat()
        place, bit = choose.randrange(len(content)), choose.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        _write(file, bytes(flipped), status)
        where = f"{file.relative_to(world.place)}, byte {place}, bit {bit}"
        # Every second copy of a picture rots on the disk, which changes no time.
        rots = _is_copy(file) and number // len(order) % 2
        try:
            with _unseen(status) if rots else contextlib.nullcontext():
                _judge(world, truth, file, where, tally)
        finally:
            _restore(world, file, content, status)
    return tally


def measure() -> list[Row]:
    """Flips over all files of runs, a study, the stores, and MLflow's copies of models."""
    with tempfile.TemporaryDirectory() as folder, environment(BAKEOFF_CACHE=f"{folder}/cache"):
        world = World.made(Path(folder))
        tally = flip_bytes(world, _FLIPS)
        count = len(world.files())
    for line in (*tally.wrong, *tally.crashed, *tally.unnamed):
        print(f"  {line}", flush=True)
    what = (
        f"{_FLIPS:,} random bits flipped in the {count} files of runs, a study, stores, what "
        "archives and addresses left, and MLflow's models"
    )
    outcomes = ", ".join(f"{n} {name}" for name, n in tally.counts.most_common())
    return [
        Row(f"{what}: wrong answers without a word", f"{len(tally.wrong)} ({outcomes})", "0",
            not tally.wrong),
        Row(f"{what}: questions that ended in a traceback", str(len(tally.crashed)), "0",
            not tally.crashed),
        Row("the same in sealed files: not named by src.verify", str(len(tally.unnamed)), "0",
            not tally.unnamed),
    ]  # fmt: skip


def _is_copy(file: Path) -> bool:
    """Return whether a file came from an archive or an address."""
    return "content" in file.parts


def _kind(file: Path) -> str:
    """Return what counts as one file among many: the modules of a bundle, copies of pictures."""
    if "code" in file.parts:
        return "code in " + ("MLflow" if "mlartifacts" in file.parts else "runs")
    return str(file.parents[-file.parts.index("content")]) if _is_copy(file) else str(file)


@contextlib.contextmanager
def _unseen(status: os.stat_result) -> Iterator[None]:
    """Have a file's state be what it was, as where a disk and no program changes a bit."""

    def state(found: os.stat_result) -> tuple[int, int, int, int]:
        same = (found.st_ino, found.st_size) == (status.st_ino, status.st_size)
        return file_state(status if same else found)

    users = [m for m in sys.modules.values() if getattr(m, "file_state", None) is file_state]
    with contextlib.ExitStack() as patches:
        for module in users:
            if module.__name__.startswith("src."):
                patches.enter_context(mock.patch.object(module, "file_state", state))
        yield


def _judge(world: World, truth: dict[str, Any], file: Path, where: str, tally: Tally) -> None:
    outcomes = set()
    for question in world.questions():
        if not file.is_relative_to(question.folder):
            continue
        name = question.name
        check_again()
        events._warn_of_line.cache_clear()  # as in a process of its own
        try:
            answer, said = _ask(question.ask)
        except _REFUSALS:
            outcomes.add("refused")
            continue
        except Exception as error:
            tally.crashed.append(f"{where}: {name}: {error!r}")
            outcomes.add("crashed")
            continue
        if said:
            outcomes.add("said")
        elif answer != truth[name]:
            tally.wrong.append(f"{where}: {name}")
            outcomes.add("wrong")
    for run in (world.run, world.classical):
        inside = file.is_relative_to(run.path) and "tracking" not in file.parts
        if inside and not _named(run, file):
            tally.unnamed.append(where)
    if any(file.is_relative_to(model) for model in world.served):
        faults = verify_models(world.run.output_dir, repair=False)
        if file not in {fault.place for fault in faults}:
            tally.unnamed.append(where)
    order = ("wrong", "crashed", "refused", "said")
    tally.counts[next((one for one in order if one in outcomes), "without effect")] += 1


def _ask(ask: Callable[[], Any]) -> tuple[Any, bool]:
    """The answer, and whether a warning came with it."""
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("src")
    logger.addHandler(handler)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(heard):
            answer = ask()
    finally:
        logger.removeHandler(handler)
    said = heard.getvalue()
    if isinstance(answer, tuple) and answer and answer[0] == "remarks":
        return answer[2], bool(said or answer[1])
    return answer, bool(said)


def _named(run: RunFolder, file: Path) -> bool:
    settings = compose_settings(VerifySettings, [f"run={run.path}", f"output_dir={run.output_dir}"])
    places = [fault.place for fault in verify_all(settings)[1]]
    return file in places or run.path / "seal.json" in places


def _write(file: Path, content: bytes, status: os.stat_result) -> None:
    """Into the same file, with nothing to be seen in the folder."""
    with file.open("r+b") as stream:
        stream.write(content)
        stream.truncate()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _restore(world: World, file: Path, content: bytes, status: os.stat_result) -> None:
    """Put the byte back; a store that was made anew meanwhile is as good, and stays."""
    if file.is_relative_to(world.place / "cache"):
        if file.exists() and file.stat().st_ino == status.st_ino:
            _write(file, content, status)
        if _is_copy(file):  # whose times are others now, which the next flip is not to blame for
            for question in world.questions():
                if question.folder == world.place / "cache":
                    _ask(question.ask)
        return
    if "mlartifacts" in file.parts:  # a repair changes the time, by which Python knows it
        shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)
    if not file.exists():
        file.touch()
    _write(file, content, status)
