"""Train a chosen run again, on training and validation part together.

After the choice the validation part is free for training, and more pictures make a better model as
a rule. But it is measured on the test part alone, so nothing may be left to choose: every setting
is the chosen run's, and so is the number of epochs. Only `data.train_limit` is dropped, which
restricts the training pictures of a short race or of a learning curve.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median_high

from ..config.checks import ConfigError
from ..config.cross_validation import CrossValidationSettings
from ..config.models import EnsembleSettings, NetworkSettings
from ..config.schema import RunSettings
from ..data.splitting.splits import Split
from ..machine.package import command
from ..machine.text import counted
from ..records.run import Predictions, RunSummary
from ..runs.build import build_data
from ..runs.candidates.candidate import settle_thresholds
from ..runs.candidates.choose import load_trained
from ..runs.fold_records import fold_runs
from ..runs.folder import REFIT, RunFolder, finished_summary, read_json
from ..runs.seal import amending
from ..storage.files import write_atomically
from .retrain import repeating_command, train_into

__all__ = ["earlier_refit", "refit", "refit_settings"]


def earlier_refit(chosen: RunFolder) -> RunFolder | None:
    """Return the refit of a run that was started before, finished or not."""
    name = read_json(chosen.path / REFIT).get("run", "")
    with suppress(ValueError, TypeError):  # a damaged one is none
        return RunFolder.open(chosen.path.parent / Path(name).name)
    return None


def refit(chosen: RunFolder, settings: RunSettings, chosen_summary: RunSummary) -> RunFolder:
    """Train the chosen run's settings on the validation part as well, in a run of its own.

    One that was begun before goes on, and a finished one is not trained again.

    Args:
        chosen: has a trained model.
        settings: of its configuration file.
        chosen_summary: its own.

    Raises:
        ConfigError: the pictures are others than those that the run was chosen on.
        Exception: as `run_experiment`.
    """
    earlier = earlier_refit(chosen)
    if earlier is not None and finished_summary(earlier) is not None:
        print(f"refit: {earlier.name} exists already")
        return earlier
    if isinstance(settings.model, EnsembleSettings):
        raise ConfigError(
            f"refit: {chosen.name} is made of runs that are trained already, so there is nothing "
            "to train once more: set refit=false."
        )
    _require_weights(chosen, settings, earlier)
    epochs = _epochs(chosen, settings)
    wanted = refit_settings(settings, epochs)
    most = None if settings.cv.is_whole else settings.data.train_limit
    data = build_data(replace(wanted, data=replace(wanted.data, train_limit=most)), chosen.split)
    before = Split.read(chosen.split)
    same = data.split.fingerprint == before.with_val_training().fingerprint
    # The answers of the chosen run, by which the refit is calibrated, go by its numbers.
    if not (same and data.split.numbers_as(before)):
        raise ConfigError(
            f"the pictures of {settings.data.name}, or their order, have changed since "
            f"{chosen.name} was trained: train and choose again, or set refit=false."
        )
    folder = earlier or RunFolder.create(chosen.output_dir, settings.model.name, settings.data.name)
    with amending(chosen.path, REFIT):
        write_atomically(chosen.path / REFIT, json.dumps({"run": folder.name}) + "\n")
    _keep_thresholds(chosen, folder, wanted)
    otherwise = command("select", f"run={chosen_summary.run_dir}", "refit=true")
    # A training alone would choose no thresholds, without pictures to choose them by.
    by_held_out = wanted.data.chosen_for is not None
    repeat = otherwise if by_held_out else repeating_command(chosen_summary, wanted, otherwise)
    how_long = f" for {counted(epochs, 'epoch')}" if epochs else ""
    print(f"refit: training{how_long} on the training and validation parts together")
    if most is not None:
        data = build_data(wanted)
        print(
            f"refit: on all {len(data.split.train):,} pictures, instead of the "
            f"{len(before.train):,} that data.train_limit left"
        )
    if wanted.trainer.devices == 1:
        for line in data.summary:
            print(f"data: {line}")
    train_into(folder, wanted, data, repeat)
    return folder


def _require_weights(chosen: RunFolder, settings: RunSettings, earlier: RunFolder | None) -> None:
    """Raise a ConfigError where the file is gone that a new training starts from."""
    model = settings.model
    file = model.weights_file if isinstance(model, NetworkSettings) else None
    begun = earlier is not None and any(earlier.checkpoints.glob("*.ckpt"))
    if file is not None and not begun and not Path(file).is_file():
        raise ConfigError(
            f"refit: {chosen.name} was trained from the weights in {file}, which are gone: put the "
            "file back, or set refit=false."
        )


def _keep_thresholds(chosen: RunFolder, folder: RunFolder, settings: RunSettings) -> None:
    """Give the refit the thresholds of answers that held-out pictures of the chosen run have.

    Of repeats those of the first: a mean of models is less extreme than the one that is refitted.
    """
    file, wanted = chosen.answers("val")[0], settings.data.chosen_for
    if wanted is not None and file.is_file():
        settle_thresholds(folder, wanted, Predictions.read(file))


def refit_settings(settings: RunSettings, epochs: int) -> RunSettings:
    """Return settings that train as long as a run did, on its validation part as well.

    The schedule stays that of the whole run: where the chosen weights are those of an earlier
    epoch, the refit ends at that epoch of the same schedule. A run that time ended had come to the
    end of its schedule by then.

    Args:
        settings: without any `auto`.
        epochs: that the chosen weights were trained; 0 for what knows none.
    """
    trainer = settings.trainer
    if epochs:
        early = trainer.early_stopping is not None or trainer.final_weights == "best"
        if trainer.max_time is not None and trainer.stop_after is None and not early:
            trainer = replace(trainer, max_epochs=epochs)
        trainer = replace(
            trainer,
            stop_after=epochs if epochs < trainer.epochs else None,
            early_stopping=None,
            final_weights="last",
            max_time=None,
        )
    return replace(
        settings,
        resume=None,
        evaluate_test=False,
        cv=CrossValidationSettings(folds=None, repeats=1, fold=None),
        data=replace(settings.data, train_on_val=True, train_limit=None),
        trainer=trainer,
        tracking=replace(settings.tracking, log_model=True, figures=True),
    )


def _epochs(chosen: RunFolder, settings: RunSettings) -> int:
    """Return the epochs of the chosen weights; of a cross-validation, the median of its folds."""
    runs = fold_runs(chosen) if settings.cv.is_whole else [chosen]
    found = [load_trained(run.chosen_checkpoint()).metadata["epochs"] for run in runs]
    if not found:
        raise ConfigError(f"refit: the runs of the folds of {chosen.name} are gone.")
    return int(median_high(found))
