"""The stored command line of a study, so that its name suffices to resume it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..config.overrides import split_override, without_keys
from ..config.plugins import plugin_overrides
from ..config.sweep import SweepSettings
from ..machine.package import command
from ..machine.regular_files import file_fault
from ..storage.digests import checked_json, line_content
from ..storage.files import write_atomically

__all__ = [
    "completed_command",
    "keep_command",
    "kept_command",
    "name_and_place",
    "shorter_command",
]

_FILE = "command.json"
# Keys that may differ from one start of a study to the next, since no result depends on them.
_CHANGEABLE = (
    *("study", "output_dir", "storage", "plugins", "finalists", "finalist_seeds", "failure_limit"),
    *("extra_trainings", "budget", "workers", "tracking"),
)

# Keys of an earlier start without effect once a later one gives these overrides.
_IDLE_WITH = {
    "workers=local": ("workers.address",),
    "finalists=0": ("finalist_seeds", "extra_trainings"),
}


def keep_command(folder: Path, overrides: Sequence[str], config_name: str) -> None:
    """Store the command line of a study in its folder.

    Raises:
        OSError: the file cannot be written.
    """
    stated = [*plugin_overrides(), *overrides]
    if kept_command(folder) != (stated, config_name):
        kept = {"config_name": config_name, "overrides": stated}
        write_atomically(folder / _FILE, checked_json(kept))


def completed_command(
    overrides: Sequence[str], config_name: str | None, default: str
) -> tuple[list[str], str]:
    """Return the overrides and the file name in sweeps/ of a command line, completed.

    If the command line names an existing study and otherwise sets only keys on which no result
    depends, the overrides of the study's last start are added.

    Args:
        overrides: of the command line.
        config_name: of the command line, or None.
        default: name of the file if none is given.
    """
    stated = dict(map(split_override, overrides))
    if (
        config_name is None
        and "study" in stated
        and all(key.startswith(_CHANGEABLE) for key in stated)
    ):
        folder = Path(stated.get("output_dir", "outputs"), "sweeps", stated["study"])
        kept = kept_command(folder)
        if kept is not None:
            newer = {
                *stated,
                *(key for override in overrides for key in _IDLE_WITH.get(override, ())),
            }
            return [*without_keys(kept[0], newer), *overrides], kept[1]
    return list(overrides), config_name or default


def shorter_command(settings: SweepSettings) -> str | None:
    """Return the shortest command that resumes a study; None if no command is stored."""
    if kept_command(settings.study_folder) is None:
        return None
    return command("sweep", *name_and_place(settings))


def name_and_place(settings: SweepSettings) -> list[str]:
    """Return the overrides that say which study of which folder is meant."""
    place = [] if settings.output_dir == "outputs" else [f"output_dir={settings.output_dir}"]
    return [f"study={settings.study}", *place]


def kept_command(folder: Path) -> tuple[list[str], str] | None:
    """Return the overrides of a study's last start and the name of its file; None if not stored."""
    if file_fault(folder / _FILE) is not None:  # reported where the study is opened
        return None
    try:
        kept = line_content((folder / _FILE).read_bytes())
        return [str(override) for override in kept["overrides"]], str(kept["config_name"])
    except (OSError, KeyError, TypeError, ValueError):  # or damaged
        return None
