"""What a worker does with a job: train a candidate as a tracked run, and keep the data open."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from src.config.checks import ConfigError, to_plain
from src.config.compose import compose_settings, leaves, word_of
from src.config.features import ClassicalSettings
from src.config.finished import EvaluateSettings
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.data.splitting.folds import training_seed
from src.machine.failures import DiskRefuses, OutOfMemory, RunFailed
from src.machine.interruption import Interrupted, Interruption, Stopped
from src.machine.parallel import available_cores
from src.runs import build
from src.runs.candidates.choose import origin_of, prepared
from src.runs.experiment import run_experiment
from src.runs.finished.evaluate import measure_again
from src.runs.folder import RunFolder
from src.runs.lifecycle import ParentLink
from src.runs.resume_settings import effective_words, read_run_settings
from src.search.workers.process import Ending, Job, Say
from src.sweeps.ddp_trial import train_apart

__all__ = ["TrialRunner"]

_CHOSEN = (
    *("runtime.", "data.batch_size", "trainer.max_epochs"),
    *("model.networks", "model.input_size"),
)
_MOST_OPEN = 4


class TrialRunner:
    """Runs jobs one after another in one process.

    A job is a dict of plain values. `do` is one of:
    - "prepare": what a family leaves open is measured and chosen. words, seconds (that this may
      take, or None) -> words, epochs, seconds_per_epoch, published, notes, trainings.
    - "train": a trial or a finalist. words, places (words that say where), command, name, tags,
      parent_run_id, metric, direction; `resume` with the folder of a run that goes on, or None
      -> metrics, seconds.
    - "test": the test part is measured. run_dir, places -> metrics, measurements, run_dir; with
      `train`, such a job, it is measured on what that gives.

    Args:
        apart: whether this is such a process of its own.
    """

    def __init__(self, apart: bool = False) -> None:
        self._apart = apart
        self._warm = False
        self._open: dict[str, PictureData] = {}

    def __call__(self, job: Job, say: Say) -> Ending:
        try:
            with Interruption():
                match job["do"]:
                    case "prepare":
                        return self._prepare(job)
                    case "test":
                        return self._test(job, say)
                    case _:
                        return self._train(job, say)
        except Interrupted as stop:
            return Ending("interrupted", reason=str(stop))
        except DiskRefuses as error:
            return Ending("starved", reason=str(error))
        except ConfigError as error:
            return Ending("failed", {"wrong_input": True}, reason=str(error))
        except RunFailed as error:
            return Ending("failed", reason=str(error))
        finally:
            if not self._warm:  # what is there now stays: not to be looked through after each job
                gc.collect()
                gc.freeze()
                self._warm = True
            # What an exception's frames held, networks and their gradients, is free by now.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _prepare(self, job: Job) -> Ending:
        settings = _settings(job)
        if settings.data.train_on_val:
            raise ConfigError("data.train_on_val leaves no validation part to race on: say false.")
        data = self._pictures(settings)
        before = leaves(to_plain(settings))
        networks = not any(word.startswith("model.networks=") for word in job["words"])
        # Nothing else runs meanwhile: all cores may describe pictures. A network is timed with the
        # threads that its trials will have.
        classical = isinstance(settings.model, ClassicalSettings)
        with _threads(available_cores() if classical else torch.get_num_threads()):
            found = prepared(settings, data, networks=networks, seconds=job.get("seconds"))
        settings = found.settings
        chosen = {
            key: value
            for key, value in leaves(to_plain(settings)).items()
            if key.startswith(_CHOSEN) and value != before[key]
        }
        result = {
            "words": [word_of(key, value) for key, value in chosen.items()],
            "epochs": found.epochs,
            "seconds_per_epoch": found.seconds_per_epoch,
            "published": origin_of(settings).start in ("frozen", "fine-tuned"),
            "notes": list(found.notes),
            # Features are computed once for all folds.
            "trainings": 1 if classical or not settings.cv.is_whole else settings.cv.count,
            "data": list(data.summary),
        }
        return Ending("complete", result)

    def _train(self, job: Job, say: Say) -> Ending:
        settings = _settings(job)
        if settings.trainer.devices != 1 and not self._apart:
            return train_apart(job, say)

        begun: list[RunFolder] = []

        def announce(folder: RunFolder) -> None:
            begun.append(folder)
            say.note(run_id=folder.run_id, run_dir=str(folder.path))

        def announce_fold(folder: RunFolder) -> None:
            begun.append(folder)
            say.note(fold_dir=str(folder.path))

        curve: list[float] = []

        def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
            if job["metric"] in metrics:
                curve.append(metrics[job["metric"]])
            reason = say.report(epoch + 1, metrics)
            if reason is not None:
                raise Stopped(reason)

        parent = ParentLink(
            parent_run_id=job["parent_run_id"],
            name=job["name"],
            tags=job["tags"],
            announce=announce,
            announce_fold=announce_fold,
            figures=lambda: _last_and_best(curve, job["direction"]),
        )
        try:
            summary = run_experiment(
                settings,
                on_epoch,
                command=job["command"],
                data=self._pictures(settings),
                parent=parent,
            )
        except Stopped as stop:
            for folder in begun:
                shutil.rmtree(folder.checkpoints, ignore_errors=True)
            return Ending("pruned", reason=str(stop))
        except OutOfMemory as error:
            return Ending("failed", reason=str(error), again=_smaller(settings))
        if summary is None:  # a further process of a run on several devices
            return Ending("complete")
        result = {
            "metrics": summary.metrics,
            "seconds": summary.duration_seconds,
            "run_dir": summary.run_dir,
        }
        return Ending("complete", result)

    def _test(self, job: Job, say: Say) -> Ending:
        run_dir = job["run_dir"]
        if "train" in job:
            ending = self._train(job["train"], _NoReports(say))
            if ending.state != "complete":
                return replace(ending, again=None)
            run_dir = ending.result["run_dir"]
        folder = RunFolder.open(Path(run_dir))
        words = [f"run={folder.path}", "split=test", *job["places"]]
        settings = compose_settings(EvaluateSettings, words, config_name="evaluate")
        metrics, measurements = measure_again(folder, folder.chosen_checkpoint(), settings)
        result = {"metrics": metrics, "measurements": measurements, "run_dir": run_dir}
        return Ending("complete", result)

    def _pictures(self, settings: RunSettings) -> PictureData:
        """Those of an earlier job if they are the same; a single fold divides them for itself.

        Candidates of several sizes take turns: the last few sets stay open, mapped and not read.
        """
        plain = {k: v for k, v in to_plain(settings.data).items() if k != "batch_size"}
        fold = to_plain(settings.cv) if settings.cv.fold is not None else None
        side = build.native_side(settings.model) if settings.data.image_size is None else None
        key = json.dumps([plain, fold, side], sort_keys=True)
        data = self._open.pop(key, None)
        if data is None:
            while len(self._open) >= _MOST_OPEN:  # the oldest go before a new one comes
                self._open.pop(next(iter(self._open)))
            data = build.build_data(settings)
        self._open[key] = data
        data.batch_size = build.first_batch_size(settings)
        data.seed = training_seed(settings.seed, settings.cv.fold)
        return data


class _NoReports:
    """Passes on what a job notes, but not its epochs, after which nobody is to stop it."""

    def __init__(self, say: Say) -> None:
        self.note = say.note

    def report(self, epoch: int, metrics: Mapping[str, float]) -> str | None:
        return None


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _settings(job: Mapping[str, Any]) -> RunSettings:
    words: Sequence[str] = job["words"]
    places: Sequence[str] = job["places"]
    # A run whose folder is gone, or was moved with its study, is begun anew.
    if job.get("resume") and Path(job["resume"]).is_dir():
        kept = [w for w in places if w.startswith(("output_dir=", "tracking.uri="))]
        return read_run_settings([f"resume={job['resume']}", *kept])
    return read_run_settings([*words, *effective_words(places, words)])


def _last_and_best(curve: Sequence[float], direction: str) -> dict[str, float]:
    if not curve:
        return {}
    best = max(curve) if direction == "maximize" else min(curve)
    return {"objective/last": curve[-1], "objective/best": best}


def _smaller(settings: RunSettings) -> dict[str, Any] | None:
    """The same step of the optimizer in two batches of half the size."""
    size = settings.data.batch_size
    if not isinstance(size, int) or size < 2:
        return None
    steps = 2 * settings.trainer.accumulate_batches
    return {"changes": [f"data.batch_size={size // 2}", f"trainer.accumulate_batches={steps}"]}
