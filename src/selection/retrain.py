"""Train the settings of a finished run once more, with changes, in a folder of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..config.checks import ConfigError, to_plain
from ..config.command_line import ChildEnded
from ..config.compose import compose_settings
from ..config.nested import leaves
from ..config.overrides import by_key, changed, override_of, without_keys
from ..config.plugins import plugin_overrides
from ..config.schema import RunSettings
from ..data.loading.picture_data import PictureData
from ..machine.package import command, module_command, overrides_of
from ..machine.subprocesses import run_bound
from ..machine.yaml_text import yaml_text
from ..records.run import RunSummary
from ..runs.experiment import run_experiment
from ..runs.folder import RunFolder
from ..storage.files import write_atomically
from ..tracking.addresses import without_password

__all__ = ["repeating_command", "train_into"]


def train_into(folder: RunFolder, settings: RunSettings, data: PictureData, repeat: str) -> None:
    """Train in a run's folder, new or begun before.

    Args:
        folder: of the run.
        settings: without any `auto`.
        data: the pictures, as the settings divide them.
        repeat: the command line that the run keeps.

    Raises:
        Exception: as `run_experiment`.
    """
    wanted = replace(settings, resume=str(folder.path), output_dir=str(folder.output_dir))
    if wanted.trainer.devices != 1:
        _train_on_devices(folder, wanted)
    else:
        run_experiment(wanted, command=repeat, data=data, is_step=True)


def _train_on_devices(folder: RunFolder, settings: RunSettings) -> None:
    """Train in a child: Lightning repeats the command line, a training's, for further devices."""
    plain = yaml_text(to_plain(settings))
    write_atomically(folder.config, plain)
    if code := run_bound(module_command("train", f"resume={folder.path}")):
        raise ChildEnded(code)


def repeating_command(before: RunSummary, settings: RunSettings, otherwise: str) -> str:
    """Return the command of a training: the overrides of an earlier run, and those that differ.

    Args:
        before: of the earlier run.
        settings: of the training.
        otherwise: what is returned where the earlier command is not known, or of another version.
    """
    given = overrides_of(before.command, "train")
    overrides = without_keys(given or (), ["plugins"])
    if given is not None and "resume" not in by_key(overrides):
        try:
            typed = _effective(compose_settings(RunSettings, overrides))
        except ConfigError:  # of another version
            typed = {}
        if typed.keys() == (wanted := _effective(settings)).keys():
            further = [override_of(key, v) for key, v in wanted.items() if typed[key] != v]
            whole = changed(overrides, further)
            return without_password(command("train", *plugin_overrides(), *whole))
    return otherwise


def _effective(settings: RunSettings) -> dict[str, Any]:
    """Return the values by dotted key, but for those that mean nothing to the model."""
    found = leaves(to_plain(settings))
    return {key: value for key, value in found.items() if not settings.is_idle(key)}
