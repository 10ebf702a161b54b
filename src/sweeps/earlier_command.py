"""The command line of a study, kept so that the study's name alone goes on with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
# What may differ from one start of a study to the next, since no result depends on it.
_FREE = (
    *("study", "output_dir", "storage", "plugins", "finalists", "finalist_seeds", "failure_limit"),
    *("extra_trainings", "budget", "workers", "tracking"),
)

# What an earlier start said that a later one makes idle by a word of these.
_IDLE_WITH = {
    "workers=local": ("workers.address",),
    "finalists=0": ("finalist_seeds", "extra_trainings"),
}


def keep_command(folder: Path, overrides: Sequence[str], config_name: str) -> None:
    """Keep the command line of a study in its folder.

    Raises:
        OSError: it cannot be written.
    """
    given = [*plugin_overrides(), *overrides]
    if kept_command(folder) != (given, config_name):
        kept = {"config_name": config_name, "overrides": given}
        write_atomically(folder / _FILE, checked_json(kept))


def completed_command(
    overrides: Sequence[str], config_name: str | None, default: str
) -> tuple[list[str], str]:
    """Return the overrides and the name of the file of sweeps/ that a command line means.

    Where it names a study that was begun before, and says nothing else of it but how long and where
    it runs, they are those of the study's last start with these in addition.

    Args:
        overrides: of the command line.
        config_name: that it gives, or None.
        default: the name where none is given.
    """
    given = dict(word.partition("=")[::2] for word in overrides)
    if config_name is None and "study" in given and all(key.startswith(_FREE) for key in given):
        folder = Path(given.get("output_dir", "outputs"), "sweeps", given["study"])
        kept = kept_command(folder)
        if kept is not None:
            newer = {*given, *(key for word in overrides for key in _IDLE_WITH.get(word, ()))}
            earlier = [word for word in kept[0] if word.partition("=")[0] not in newer]
            return [*earlier, *overrides], kept[1]
    return list(overrides), config_name or default


def shorter_command(settings: SweepSettings) -> str | None:
    """Return the shortest command that goes on with a study; None where none was kept."""
    if kept_command(settings.study_folder) is None:
        return None
    return command("sweep", *name_and_place(settings))


def name_and_place(settings: SweepSettings) -> list[str]:
    """Return the overrides that say which study of which folder is meant."""
    place = [] if settings.output_dir == "outputs" else [f"output_dir={settings.output_dir}"]
    return [f"study={settings.study}", *place]


def kept_command(folder: Path) -> tuple[list[str], str] | None:
    """Return the overrides of a study's last start and the name of its file; None without any."""
    if file_fault(folder / _FILE) is not None:  # which is told where the study is opened
        return None
    try:
        kept = line_content((folder / _FILE).read_bytes())
        return [str(word) for word in kept["overrides"]], str(kept["config_name"])
    except (OSError, KeyError, TypeError, ValueError):  # or damaged
        return None
