"""Random bytes flipped in the files of runs, a study and stores: no wrong answer comes silently.

Every question that the project answers from files is asked before and after each flip, in this
process. An answer that differs must come with a refusal, a remark or a warning.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from PIL import Image

from benchmarks.table import Row
from src.candidates.choose import load_trained
from src.champions import Champion
from src.comparing import compared
from src.config.after import CompareSettings, VerifySettings
from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.resume import read_run_settings
from src.data.blocks import check_again
from src.data.ledger import past_test_measurements
from src.data.splits import Split
from src.experiment import run_experiment
from src.finished.choosing import read_chosen
from src.run_folder import RunFolder
from src.run_resumed import finished_summary
from src.search.journal import Journal
from src.serving.bundle import open_predictor
from src.tracking.history import read_history
from src.tracking.spool import forget_warnings
from src.training.checkpoints import read_checkpoint
from src.training.failures import RunFailed
from src.training.kept import Kept, load, store
from src.verifying.everything import verify_all

__all__ = ["Tally", "World", "flip_bytes", "measure"]

_FLIPS = 1000
_RUN = (
    *("runtime=float32", "trainer.max_epochs=2", "data.batch_size=16", "tracking=none"),
    *("trainer.progress=false", "tracking.figures=false", "evaluate_test=true"),
)
# What a refusal looks like to whoever calls; all else would be a traceback.
_REFUSALS = (ConfigError, RunFailed, ValueError, OSError)


@dataclass(frozen=True)
class Question:
    """A question, below which folder the files lie that answer it, and how it is asked."""

    name: str
    folder: Path
    ask: Callable[[], Any]


@dataclass
class World:
    """An output folder with everything in it, and the questions that its files answer.

    Attributes:
        place: holds pictures, an output folder and a cache.
        run: a sealed run of a network.
        classical: a sealed run of hand-crafted features.
        unfinished: a run without a seal, which could go on.
    """

    place: Path
    run: RunFolder
    classical: RunFolder
    unfinished: RunFolder

    @classmethod
    def made(cls, place: Path) -> World:
        """Train what is needed in an empty folder; $BAKEOFF_CACHE is its folder `cache`."""
        for label in range(2):
            (place / "pets" / f"class{label}").mkdir(parents=True)
            for number in range(30):
                noise = np.random.default_rng(100 * label + number)
                pixels = noise.integers(60 * label, 160 + 60 * label, (12, 16, 3), np.uint8)
                file = place / "pets" / f"class{label}" / f"{number:02}.png"
                Image.fromarray(pixels).save(file)
                os.utime(file, (time.time() - 3600,) * 2)  # so that what is found is kept
        run = _trained(place, "model=mlp")
        classical = _trained(
            place, "model=handcrafted", "model.features=[raw]", "model.classifier=knn"
        )
        unfinished = _trained(place, "model=mlp", "seed=1", "evaluate_test=false")
        (unfinished.path / "seal.json").unlink()
        unfinished.summary.unlink()
        for path in unfinished.predictions.iterdir():
            path.unlink()
        Champion("pets", run.name, run.run_id).write(place / "out")
        store("plan", {"a": 1}, Kept({"seconds": 1.25}, False))
        _study(place / "out" / "sweeps" / "s")
        return cls(place, run, classical, unfinished)

    def files(self) -> list[Path]:
        """Every file that can be flipped, locks and pictures aside."""
        found = [*(self.place / "out").rglob("*"), *(self.place / "cache").rglob("*")]
        return sorted(p for p in found if p.is_file() and p.suffix != ".lock" and p.stat().st_size)

    def questions(self) -> list[Question]:
        """What is asked of the files."""
        out, cache = self.place / "out", self.place / "cache"
        runs = {"network": self.run, "classifier": self.classical}
        found = [
            Question("the verdict", out, lambda: _verdict(out)),
            Question("the unfinished run", self.unfinished.path, lambda: _state(self.unfinished)),
            Question("the champion", out, lambda: _champion(out)),
            Question("test measurements", out, lambda: _measurements(self.run)),
            Question("trials", out / "sweeps", lambda: _trials(out / "sweeps" / "s")),
            Question("pictures", cache, lambda: _pictures(self.place)),
            Question("features", cache, lambda: _features(self.place)),
            Question("a measured plan", cache / "plans", _plan),
        ]
        for name, run in runs.items():
            found += [
                Question(f"labels by the {name}", run.path, partial(_labels, run)),
                Question(f"labels by the {name}'s bundle", run.path, partial(_served, run)),
                Question(f"the {name}'s curve", run.path, partial(_curve, run)),
            ]
        return found


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
    for file in world.files():  # the many files of a bundle's code are of one kind
        kinds.setdefault("code" if "code" in file.parts else str(file), []).append(file)
    order = sorted(kinds)
    choose.shuffle(order)
    for number in range(flips):
        file = choose.choice(kinds[order[number % len(order)]])
        content, status = file.read_bytes(), file.stat()
        place, bit = choose.randrange(len(content)), choose.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        _write(file, bytes(flipped), status)
        try:
            where = f"{file.relative_to(world.place)}, byte {place}, bit {bit}"
            _judge(world, truth, file, where, tally)
        finally:
            _restore(world, file, content, status)
    return tally


def measure() -> list[Row]:
    """Flips over all files of two runs, a study and the stores."""
    with tempfile.TemporaryDirectory() as folder, _cache(Path(folder) / "cache"):
        world = World.made(Path(folder))
        tally = flip_bytes(world, _FLIPS)
        count = len(world.files())
    for line in (*tally.wrong, *tally.crashed, *tally.unnamed):
        print(f"  {line}", flush=True)
    what = f"{_FLIPS:,} random bytes flipped in the {count} files of runs, a study and stores"
    outcomes = ", ".join(f"{n} {name}" for name, n in tally.counts.most_common())
    return [
        Row(f"{what}: wrong answers without a word", f"{len(tally.wrong)} ({outcomes})", "0",
            not tally.wrong),
        Row(f"{what}: questions that ended in a traceback", str(len(tally.crashed)), "0",
            not tally.crashed),
        Row("the same in sealed files: not named by src.verify", str(len(tally.unnamed)), "0",
            not tally.unnamed),
    ]  # fmt: skip


def _judge(world: World, truth: dict[str, Any], file: Path, where: str, tally: Tally) -> None:
    outcomes = set()
    for question in world.questions():
        if not file.is_relative_to(question.folder):
            continue
        name = question.name
        check_again()
        forget_warnings()
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
    settings = compose_settings(
        VerifySettings, [f"run={run.path}", f"output_dir={run.output_dir}"], "verify"
    )
    places = [fault.place for fault in verify_all(settings)[1]]
    return file in places or run.path / "seal.json" in places


def _trained(place: Path, *words: str) -> RunFolder:
    given = [*_RUN, *words, "data=folder", f"data.root={place / 'pets'}"]
    if "model=handcrafted" in words:
        given = [
            word for word in given if not word.startswith(("trainer.", "runtime", "data.batch"))
        ]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        summary = run_experiment(read_run_settings([*given, f"output_dir={place / 'out'}"]))
    assert summary is not None
    return RunFolder.open(Path(summary.run_dir))


def _study(folder: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = Journal(folder / "study.journal")
    study = optuna.create_study(storage=JournalStorage(journal), study_name="s")
    for _ in range(5):
        trial = study.ask()
        trial.report(trial.suggest_float("x", 0, 1), 0)
        study.tell(trial, trial.params["x"])
    journal.close()


def _verdict(out: Path) -> tuple[str, tuple[str, ...], str]:
    settings = compose_settings(CompareSettings, [f"output_dir={out}"], "compare")
    found = compared(settings)
    rows = [(one.run_dirs, one.standing, one.size, one.parameters) for one in found.entrants]
    return "remarks", found.remarks, repr((rows, found.test_measurements, found.sentences))


def _labels(run: RunFolder) -> bytes:
    chosen = read_chosen(RunFolder.find(str(run.path), run.output_dir))
    trained = load_trained(chosen.folder.chosen_checkpoint())
    return _said(trained.predictor(8)) + repr(finished_summary(run)).encode()


def _served(run: RunFolder) -> bytes:
    return _said(open_predictor(run.path / "model"))


def _said(predictor: Any) -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (6, 12, 16, 3), np.uint8)
    probs: bytes = predictor.answer([*pixels]).tobytes()
    return probs + repr(predictor.class_names).encode()


def _curve(run: RunFolder) -> str:
    return repr(read_history(run.path, ["val/accuracy", "train/loss"]))


def _state(run: RunFolder) -> str:
    stored = read_checkpoint(run.checkpoints / "last.ckpt")
    weights = {name: np.asarray(value).tobytes() for name, value in stored["state_dict"].items()}
    return repr((stored["epoch"], stored["position"], stored["bakeoff"], weights))


def _champion(out: Path) -> str:
    return read_chosen(RunFolder.find("champion", out)).folder.name


def _measurements(run: RunFolder) -> int:
    return past_test_measurements(run.output_dir, _fingerprint(run))


def _plan() -> str:
    found = load("plan", {"a": 1})
    if found is None:
        raise ValueError("it is measured anew")
    return repr(found)


def _fingerprint(run: RunFolder) -> str:
    return _FINGERPRINTS.setdefault(str(run.split), Split.read(run.split).test_fingerprint)


# Of what is flipped later: the count is asked for the pictures, not for their list.
_FINGERPRINTS: dict[str, str] = {}


def _trials(folder: Path) -> str:
    journal = Journal(folder / "study.journal")
    try:
        study = optuna.load_study(storage=JournalStorage(journal), study_name="s")
        return repr([(one.number, one.state, one.values, one.params) for one in study.trials])
    finally:
        journal.close()


def _opened(place: Path) -> Any:
    from src.build import build_data

    words = ["data=folder", f"data.root={place / 'pets'}", "model=mlp"]
    return build_data(read_run_settings(words))


def _pictures(place: Path) -> str:
    data = _opened(place)
    pictures, parts = data.pictures, data.split.parts.tobytes()
    images = pictures.images.tobytes()
    return repr((images, pictures.targets, pictures.class_names, parts, data.suspects))


def _features(place: Path) -> str:
    from src.build import build_extractors
    from src.data.cache import cache_folder
    from src.features.table import FeatureTable

    settings = read_run_settings(
        ["data=folder", f"data.root={place / 'pets'}", "model=handcrafted", "model.features=[raw]"]
    )
    data = _opened(place)
    table = FeatureTable(
        data.pictures, data.split, build_extractors(settings, data),
        cache_dir=cache_folder(None), cache_limit_bytes=10**9, workers=1,
    )  # fmt: skip
    return repr(table.part("train").tobytes())


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
        return
    if not file.exists():
        file.touch()
    _write(file, content, status)


@contextlib.contextmanager
def _cache(folder: Path) -> Iterator[None]:
    before = os.environ.get("BAKEOFF_CACHE")
    os.environ["BAKEOFF_CACHE"] = str(folder)
    os.environ.pop("BAKEOFF_RUN_FOLDER", None)
    try:
        yield
    finally:
        os.environ.pop("BAKEOFF_CACHE")
        if before is not None:
            os.environ["BAKEOFF_CACHE"] = before
