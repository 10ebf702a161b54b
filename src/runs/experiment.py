"""The way into this room: one run, or each fold of a cross-validation, from settings to summary.

Knows no Hydra and no Optuna.
"""

from __future__ import annotations

from pathlib import Path

from src.config.checks import ConfigError
from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.machine.disk import refusal_of_folder
from src.records.run import RunSummary
from src.runs.build import build_data
from src.runs.candidates.candidate import OnEpoch
from src.runs.cross_validation import cross_validate
from src.runs.lifecycle import ParentLink
from src.runs.single import is_further_device, join_first_device, run_single
from src.tracking.provenance import command_line
from src.training.progress import quiet_lightning

__all__ = ["OnEpoch", "run_experiment"]


def run_experiment(
    settings: RunSettings,
    on_epoch: OnEpoch | None = None,
    *,
    command: str | None = None,
    data: PictureData | None = None,
    parent: ParentLink | None = None,
) -> RunSummary | None:
    """Fit, evaluate and record one candidate, or each fold of its cross-validation.

    Bad input is refused before the run's folder exists. From then on the folder has the whole
    record, whatever happens: its summary says FINISHED, FAILED with the reason, or KILLED.

    Args:
        settings: one run; with `resume` set to a run's folder, that run goes on.
        on_epoch: called with (epoch from 0, metrics) after each epoch, and once by candidates
            without epochs; of a cross-validation with (fold from 0, metrics) after each fold. An
            exception that it raises ends the run.
        command: the command line that repeats the run; None for that of this process.
        data: the pictures that the settings mean, where they are open already; of a single fold
            divided for it.
        parent: the larger run, such as a sweep, that the run belongs to, or None.

    Returns:
        The summary; None in the further processes of a run on several devices.

    Raises:
        ConfigError: the input is wrong.
        Interrupted: Ctrl-C or SIGTERM; the run can be resumed.
        Stopped: `on_epoch` asked for it.
        Exception: the run failed; its summary is written.
    """
    quiet_lightning()
    command = command_line() if command is None else command
    if is_further_device():
        join_first_device()
        return None
    unwritable = refusal_of_folder(Path(settings.output_dir).absolute())
    if unwritable and settings.resume is None:
        raise ConfigError(f"output_dir is {settings.output_dir!r}: {unwritable}.")
    if data is None:
        data = build_data(settings)
        for remark in (*data.summary, *data.remarks):
            print(f"data: {remark}")
    carry_out = cross_validate if settings.cv.is_whole else run_single
    return carry_out(settings, data, on_epoch, command=command, parent=parent)
