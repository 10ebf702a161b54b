"""An output folder with everything in it, and the questions that its files answer."""

from __future__ import annotations

import contextlib
import io
import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import optuna
from optuna.storages import JournalStorage
from PIL import Image

from src.config.compose import compose_settings, read_run_settings
from src.config.finished import CompareSettings
from src.data.splitting.splits import Split
from src.data.splitting.test_usage import past_test_measurements
from src.features.feature_table import FeatureTable
from src.records.champions import Champion
from src.reporting.comparison_verdict import verdict_sentences
from src.runs.build import build_data, build_extractors
from src.runs.candidates.choose import load_trained
from src.runs.experiment import run_experiment
from src.runs.folder import RunFolder, finished_summary
from src.search.storage import Journal
from src.selection.choice import read_chosen
from src.selection.comparison import compared
from src.serving.bundle import open_predictor
from src.storage.cache import CachedMeasurement, cache_folder, load_measurement, store_measurement
from src.tracking.events import read_history
from src.tracking.logged_models import pack
from src.training.checkpoints import read_checkpoint

__all__ = ["Question", "World"]

# Where the same pictures lie besides a folder: what they leave in the cache is flipped.
_ADDRESSES = ("memory://pets", "memory://pets.zip")
_RUN = (
    *("runtime=float32", "trainer.max_epochs=2", "data.batch_size=16", "tracking=none"),
    *("trainer.progress=false", "tracking.figures=false", "evaluate_test=true"),
)


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
        served: the models of the two runs as MLflow keeps them.
    """

    place: Path
    run: RunFolder
    classical: RunFolder
    unfinished: RunFolder
    served: tuple[Path, Path]

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
        store_measurement("plan", {"a": 1}, CachedMeasurement({"seconds": 1.25}, False))
        _study(place / "out" / "sweeps" / "s")
        _offered(place)
        models = _packed(run, "m-0"), _packed(classical, "m-1")
        return cls(place, run, classical, unfinished, models)

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
            *(
                Question(f"pictures from {root}", cache, partial(_read, root, check))
                for root in (str(self.place / "pets.zip"), *_ADDRESSES)
                for check in (False, True)
            ),
            Question("a measured plan", cache / "plans", _plan),
        ]
        for name, run in runs.items():
            found += [
                Question(f"labels by the {name}", run.path, partial(_labels, run)),
                Question(f"labels by the {name}'s bundle", run.path, partial(_served, run)),
                Question(f"the {name}'s curve", run.path, partial(_curve, run)),
            ]
        for model in self.served:
            found.append(
                Question(f"labels by MLflow's {model.parent.name}", model, partial(_mlflow, model))
            )
        return found


def _offered(place: Path) -> None:
    """Offer the pictures of a folder in an archive, and both at addresses."""
    memory, archive = fsspec.filesystem("memory"), place / "pets.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for file in sorted((place / "pets").rglob("*.png")):
            name = file.relative_to(place).as_posix()
            opened.write(file, name)
            memory.pipe_file(f"/{name}", file.read_bytes())
    os.utime(archive, (time.time() - 3600,) * 2)
    memory.pipe_file("/pets.zip", archive.read_bytes())


def _packed(run: RunFolder, name: str) -> Path:
    """Return the folder of a run's model in MLflow's folder of artifacts."""
    from mlflow.entities import LoggedModel

    target = run.output_dir / "mlartifacts" / "models" / name / "artifacts"
    target.parent.mkdir(parents=True)
    model = LoggedModel(
        experiment_id="0",
        model_id=name,
        name="model",
        artifact_location=target.as_uri(),
        creation_timestamp=0,
        last_updated_timestamp=0,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        pack(run.path / "model", target, model)
    return target


def _trained(place: Path, *overrides: str) -> RunFolder:
    given = [*_RUN, *overrides, "data=folder", f"data.root={place / 'pets'}"]
    if "model=handcrafted" in overrides:
        given = [
            override
            for override in given
            if not override.startswith(("trainer.", "runtime", "data.batch"))
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
    settings = compose_settings(CompareSettings, [f"output_dir={out}"])
    found = compared(settings)
    rows = [(one.run_dirs, one.standing, one.size, one.parameters) for one in found.entrants]
    return "remarks", found.remarks, repr((rows, found.test_measurements, verdict_sentences(found)))


def _labels(run: RunFolder) -> bytes:
    chosen = read_chosen(RunFolder.find(str(run.path), run.output_dir))
    trained = load_trained(chosen.folder.chosen_checkpoint())
    return _said(trained.predictor(8)) + repr(finished_summary(run)).encode()


def _served(run: RunFolder) -> bytes:
    return _said(open_predictor(run.path / "model"))


def _mlflow(model: Path) -> str:
    """Ask as a server does; whatever ends the loading keeps it from starting."""
    from mlflow import pyfunc

    pixels = np.random.default_rng(5).integers(0, 256, (6, 12, 16, 3), np.uint8)
    try:
        found = pyfunc.load_model(str(model)).predict([{"image": one} for one in pixels])
    except Exception as error:
        raise ValueError(f"{model} is not served") from error
    return repr(found.to_dict("records"))


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
    found = load_measurement("plan", {"a": 1})
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
    overrides = ["data=folder", f"data.root={place / 'pets'}", "model=mlp"]
    return build_data(read_run_settings(overrides))


def _pictures(place: Path) -> str:
    data = _opened(place)
    pictures, parts = data.pictures, data.split.parts.tobytes()
    images = pictures.images.tobytes()
    return repr((images, pictures.targets, pictures.class_names, parts, data.suspects))


def _read(root: str, check: bool) -> str:
    overrides = ["data=folder", f"data.root='{root}'", "data.image_size=8", "model=mlp"]
    data = build_data(read_run_settings([*overrides, f"data.check_content={check}"]))
    pictures = data.pictures
    assert pictures.array is not None
    held = pictures.array.tobytes(), pictures.targets, pictures.class_names, data.split.parts
    return repr(held)


def _features(place: Path) -> str:
    settings = read_run_settings(
        ["data=folder", f"data.root={place / 'pets'}", "model=handcrafted", "model.features=[raw]"]
    )
    data = _opened(place)
    table = FeatureTable(
        data.pictures, data.split, build_extractors(settings, data),
        cache_dir=cache_folder(None), cache_limit_bytes=10**9, workers=1,
    )  # fmt: skip
    return repr(table.part("train").tobytes())
