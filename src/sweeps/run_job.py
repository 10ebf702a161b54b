"""The runner of a sweep's workers: prepares families and trains candidates as tracked runs."""

from __future__ import annotations

import gc
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..config.checks import ConfigError, to_plain
from ..config.command_line import progress_shown
from ..config.compose import compose_settings, effective_overrides, read_run_settings
from ..config.finished import EvaluateSettings
from ..config.overrides import by_key, changed, key_of_override, value_of
from ..config.plugins import PluginLost, import_plugins
from ..config.schema import RunSettings
from ..data.decoding.opening import BadPictures
from ..data.decoding.picture_store import PictureLost
from ..data.loading.picture_data import PictureData
from ..data.sources.costs import CostTable
from ..data.splitting.folds import training_seed
from ..data.splitting.splits import Split
from ..machine.failures import DiskRefuses, OutOfMemory, RunFailed, explained
from ..machine.interruption import Interrupted, Interruption, Stopped
from ..machine.memory import memory_kept
from ..machine.package import PACKAGE
from ..records.run import Predictions, RunSummary
from ..runs import build
from ..runs.experiment import run_experiment
from ..runs.finished.evaluate import measure_again
from ..runs.folder import RunFolder, drop_checkpoints
from ..runs.lifecycle import ParentLink
from ..runs.settings import of_pictures, read_resumed_settings
from ..search.jobs import Channel, Ending, Job, NoReports
from ..search.workers.local import run_in_process
from ..search.workers.slots import GPU_SHARE
from ..statistics.candidates import Measure
from ..statistics.intervals import measure_interval
from ..statistics.paired_tests import corrected_resampled_t
from ..targets import kind_of
from .measuring import measured
from .prepared import Prepared
from .tasks import MeasureTest, Prepare, Train, command_of, plain_task, read_task

__all__ = ["TrialRunner", "device_runner"]

_MAX_OPEN = 4


class TrialRunner:
    """Runs jobs one after another in one process; see `src.sweeps.tasks`.

    Args:
        spawns: whether a training on several devices gets its own process, which it needs in a
            worker: Lightning starts the processes of further devices by repeating the command line.
    """

    def __init__(self, spawns: bool = True) -> None:
        self._spawns = spawns
        self._frozen = False
        _keep_to_share()
        self._open: dict[str, PictureData] = {}

    def __call__(self, job: Job, channel: Channel) -> Ending:
        try:
            # Errors within a run are explained there; this is for errors before it.
            with Interruption(), explained(Path.cwd()), memory_kept():
                import_plugins()  # of a run that is resumed, which nothing has composed here
                match read_task(job.task):
                    case Prepare() as task:
                        with progress_shown(lambda line: channel.note(doing=line)):
                            return self._prepare(job, task)
                    case Train() as task:
                        return self._train(job, task, channel)
                    case MeasureTest() as task:
                        return self._measure_test(job, task, channel)
        except Interrupted as stop:
            return Ending("interrupted", reason=str(stop))
        except (DiskRefuses, PictureLost, PluginLost) as error:
            return Ending("starved", reason=str(error))
        except ConfigError as error:
            wrong = "pictures" if isinstance(error, BadPictures) else "settings"
            return Ending("failed", result={"wrong_input": wrong}, reason=str(error))
        except RunFailed as error:
            return Ending("failed", reason=str(error))
        finally:
            if not self._frozen:
                # The modules loaded by now stay: exclude them from later collections.
                gc.collect()
                gc.freeze()
                self._frozen = True
            # By now the frames of an exception, which hold networks and gradients, are gone.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _prepare(self, job: Job, task: Prepare) -> Ending:
        """Measure a family; halve the batch size as long as there is not enough memory."""
        changes: list[str] = []
        reason = ""
        while True:
            overrides = changed(job.overrides, changes)
            settings = _settings(overrides, task.places)
            try:
                with explained(Path(settings.output_dir), build.stated_batch_size(settings)):
                    found = measured(settings, overrides, task, self._pictures)
            except OutOfMemory as error:
                reason, smaller = str(error), _smaller(settings)
            except ConfigError:
                if not changes:
                    raise
                # Batch normalisation refuses a single picture.
                reason, smaller = reason.partition(":")[0], None
            else:
                break
            gc.collect()  # objects in the frames of the exception
            if smaller is None:
                return Ending("complete", result=asdict(Prepared([], 1, 0.0).left_out(reason)))
            changes = smaller["changes"]
        if changes:
            note = f"{', '.join(changes)}, for lack of memory"
            overrides, notes = [*changes, *found.overrides], [note, *found.notes]
            found = replace(found, overrides=overrides, notes=notes)
        return Ending("complete", result=asdict(found))

    def _train(self, job: Job, task: Train, channel: Channel) -> Ending:
        settings = _settings(job.overrides, task.places, task.resume)
        if settings.trainer.devices != 1 and self._spawns:
            own = replace(job, task=plain_task(task))
            return run_in_process(f"{PACKAGE}.sweeps.run_job:device_runner", own, channel)

        reports = _Reports(task, channel)
        command = command_of(job.overrides)
        parent = ParentLink(
            parent_run_id=task.parent_run_id,
            name=task.name,
            tags={**task.tags, "bakeoff.state": "running", "bakeoff.command": command},
            announce=reports.announce,
            announce_fold=reports.announce_fold,
            figures=reports.last_and_best,
            family=task.family,
            trial=task.trial,
        )
        try:
            data = self._pictures(settings)
            table = _table(task.costs)
            data.costs = None if table is None else table.of(tuple(data.pictures.class_names))
            summary = run_experiment(
                settings, reports.on_epoch, command=command, data=data, parent=parent
            )
        except Stopped as stop:
            for folder in reports.folders:
                drop_checkpoints(folder.path)
            return Ending("pruned", reason=str(stop))
        except OutOfMemory as error:
            return Ending("failed", reason=str(error), again=_smaller(settings))
        if summary is None:  # a further process of a run on several devices
            return Ending("complete")
        figures = summary.metrics | _interval(summary, task.metric, settings)
        return Ending("complete", figures, {"run_dir": summary.run_dir})

    def _measure_test(self, job: Job, task: MeasureTest, channel: Channel) -> Ending:
        run_dir = task.run_dir
        if task.train is not None:
            ending = self._train(job, task.train, NoReports(channel))
            if ending.state != "complete":
                return replace(ending, again=None)
            run_dir = ending.result["run_dir"]
        folder = RunFolder.open(Path(run_dir))
        channel.note(run_dir=run_dir)
        overrides = [f"run={folder.path}", "split=test", *task.places]
        settings = compose_settings(EvaluateSettings, overrides)
        metrics, measurements = measure_again(
            folder, folder.chosen_checkpoint(), settings, _table(task.costs), task.parent_run_id
        )
        test_part = Split.read(folder.split).test_fingerprint
        measured = {"fingerprint": test_part, "run_id": folder.run_id}
        result = {"run_dir": run_dir, "measurements": measurements, "measured": measured}
        return Ending("complete", metrics, result)

    def _pictures(self, settings: RunSettings) -> PictureData:
        """Return the pictures of these settings, which an earlier job may have opened.

        The last few sets stay open (memory-mapped), since candidates of several sizes alternate.
        """
        plain = {k: v for k, v in to_plain(settings.data).items() if k != "batch_size"}
        # Each fold has its own split, and a limit of training pictures is that of a fold.
        fold = to_plain(settings.cv) if settings.cv.fold is not None else settings.cv.folds is None
        side = build.native_side(settings.model) if settings.data.image_size is None else None
        key = json.dumps([plain, fold, side], sort_keys=True)
        data = self._open.pop(key, None)
        if data is None:
            while len(self._open) >= _MAX_OPEN:  # close the oldest first
                self._open.pop(next(iter(self._open)))
            data = build.build_data(of_pictures(settings))
        # The memory available to a trial must not depend on earlier trials.
        for other in self._open.values():
            other.leave_devices()
        self._open[key] = data
        data.batch_size = build.first_batch_size(settings)
        data.seed = training_seed(settings.seed, settings.cv.fold)
        return data


class _Reports:
    """What a training reports to the driver of its sweep.

    Attributes:
        folders: of the run and of its folds, as far as they have begun.
    """

    def __init__(self, task: Train, channel: Channel) -> None:
        self._task, self._channel = task, channel
        self._curve: list[float] = []
        self.folders: list[RunFolder] = []

    def announce(self, folder: RunFolder) -> None:
        self.folders.append(folder)
        self._channel.note(run_id=folder.run_id, run_dir=str(folder.path))

    def announce_fold(self, folder: RunFolder) -> None:
        self.folders.append(folder)
        self._channel.note(fold_dir=str(folder.path))

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Report an epoch, counted from 0; `Stopped` where the driver ends the training."""
        if self._task.metric in metrics:
            self._curve.append(metrics[self._task.metric])
        reason = self._channel.report(epoch + 1, metrics)
        if reason is not None:
            raise Stopped(reason)

    def last_and_best(self) -> dict[str, float]:
        """Return the last and the best value of the metric that the sweep goes by."""
        if not self._curve:
            return {}
        best = max(self._curve) if self._task.direction == "maximize" else min(self._curve)
        return {"objective/last": self._curve[-1], "objective/best": best}


# The runner of a process that trains on several devices.
device_runner = partial(TrialRunner, spawns=False)


def _table(costs: Mapping[str, Mapping[str, float]] | None) -> CostTable | None:
    """Return the table of a task's costs; None if it has none."""
    return None if costs is None else CostTable.parse(costs, Path("the table"))


def _interval(summary: RunSummary, metric: str, settings: RunSettings) -> dict[str, float]:
    """Return the 95 % interval of the metric that a race goes by, by key; {} where it has none.

    Of a cross-validation, whose figure is a mean over folds, it is that of such a mean.
    """
    keys = f"{metric}_low", f"{metric}_high"
    part, _, name = metric.partition("/")
    if part != "val" or metric not in summary.metrics or keys[0] in summary.metrics:
        return {}
    if summary.folds is not None and settings.cv.folds is not None:
        found = corrected_resampled_t(summary.folds[metric], 1 / settings.cv.folds).interval
    elif name in kind_of(settings.data.target).measures:
        file = RunFolder.open(Path(summary.run_dir)).predictions / "val.parquet"
        found = measure_interval(Predictions.read(file), Measure(name))
    else:
        return {}
    ends = dict(zip(keys, (found.low, found.high)))
    return ends if all(map(math.isfinite, ends.values())) else {}


def _keep_to_share() -> None:
    """Limit torch to the fraction of each GPU's memory that belongs to this process's slot.

    A trial that needs more fails and is retried with smaller batches, without any effect on trials
    that share its GPU.
    """
    share = float(os.environ.get(GPU_SHARE, "1"))
    if share < 1 and torch.cuda.is_available():
        for device in range(torch.cuda.device_count()):
            torch.cuda.set_per_process_memory_fraction(share, device)


def _settings(
    overrides: Sequence[str], places: Sequence[str], resume: str | None = None
) -> RunSettings:
    own = None if resume is None else _run_here(Path(resume), places)
    if own is not None:  # a run whose folder is gone is restarted
        kept = [one for one in places if key_of_override(one) in ("output_dir", "tracking.uri")]
        return read_resumed_settings([f"resume={own}", *kept])
    return read_run_settings([*overrides, *effective_overrides(places, overrides)], sampled=True)


def _run_here(noted: Path, places: Sequence[str]) -> Path | None:
    """Return the folder of a run of the study, which may have been moved or copied with it.

    None where it is gone, or not in the output folder that the places name.
    """
    output_dir = Path(str(value_of(by_key(places)["output_dir"]))).absolute()
    try:
        folder = RunFolder.at(noted, output_dir)
    except ValueError:  # it is damaged, which whoever reads its settings reports
        return noted
    here = folder is not None and folder.output_dir.resolve() == output_dir.resolve()
    return folder.path if folder is not None and here else None


def _smaller(settings: RunSettings) -> dict[str, Any] | None:
    """Return changes that split a step of the optimizer into two batches of half the size.

    None if nothing can be halved, as for a classifier on features, which has no such steps.
    """
    size = build.stated_batch_size(settings)
    if size is None or size < 2:
        return None
    steps = 2 * settings.trainer.accumulate_batches
    return {"changes": [f"data.batch_size={size // 2}", f"trainer.accumulate_batches={steps}"]}
