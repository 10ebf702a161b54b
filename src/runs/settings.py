"""Read the settings of a new, a resumed or an earlier run, and find its pictures.

Not in `resume`, so that wrong overrides are refused before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.checks import ConfigError, input_of
from ..config.compose import read_run_settings
from ..config.data import DataSettings
from ..config.models import NetworkSettings
from ..config.schema import RunSettings
from ..data.sources.roots import root_beside

if TYPE_CHECKING:  # it loads NumPy
    from .folder import RunFolder

__all__ = ["of_pictures", "read_settings", "refuse_lost_pictures", "seen_from_here"]


def read_settings(overrides: Sequence[str]) -> RunSettings:
    """Return the settings of a new run, or with `resume=RUN` those of RUN.

    Raises:
        ConfigError: they are wrong, change nothing, or RUN cannot go on.
    """
    given = dict(one.partition("=")[::2] for one in overrides)
    if given.get("resume", "null") == "null":
        return read_run_settings(overrides)
    from .resume import read_resumed_settings

    return read_resumed_settings(overrides)


def seen_from_here(settings: RunSettings, folder: RunFolder) -> RunSettings:
    """Return the settings of an earlier run with its pictures and weights as found from here.

    A relative `data.root` or `model.pretrained` that is not below the folder of this command is
    looked for beside the folder of outputs, where it usually was.
    """
    beside, model = folder.output_dir.parent, settings.model
    root = root_beside(settings.data.root, beside)
    if isinstance(model, NetworkSettings) and model.weights_file is not None:
        model = replace(model, pretrained=root_beside(model.weights_file, beside))
    return replace(settings, data=replace(settings.data, root=root), model=model)


def of_pictures(settings: RunSettings) -> RunSettings:
    """Return the settings that a run's pictures are opened by.

    Those of a run that goes on are looked for as `seen_from_here` does; what it records stays.

    Raises:
        ConfigError: the pictures of a run that goes on are gone, or its folder is no run's.
    """
    if settings.resume is None:
        return settings
    from .folder import RunFolder

    with input_of("resume"):
        folder = RunFolder.open(Path(settings.resume))
        seen = seen_from_here(settings, folder)
    refuse_lost_pictures(folder, seen.data, "resume")
    return seen


def refuse_lost_pictures(folder: RunFolder, data: DataSettings, key: str = "run") -> None:
    """Refuse a run whose pictures are not where it found them; addresses are not looked up.

    Args:
        folder: of the run.
        data: its pictures, as `seen_from_here` has them.
        key: setting that names the run.

    Raises:
        ConfigError: with the remedy.
    """
    from ..data.sources.remote import is_address

    root = data.root
    if root is None or is_address(root) or Path(root.removeprefix("file://")).exists():
        return
    raise ConfigError(
        f"{key}: {folder.name} was trained on {root}, which is not there any more: put the "
        "pictures back, or a link to where they are now."
    )
