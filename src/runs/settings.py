"""The settings of a new, a resumed or an earlier run, and the pictures that they name.

Wrong overrides of a new run are refused before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..config.checks import ConfigError, input_of
from ..config.compose import read_run_settings, refuse_idle
from ..config.data import DataSettings
from ..config.models import NetworkSettings
from ..config.overrides import by_key, key_of_override, value_of
from ..config.schema import RunSettings, stored_settings
from ..data.sources.roots import root_beside
from ..machine.disk import refusal

if TYPE_CHECKING:  # they load NumPy, and torch
    from ..data.loading.picture_data import PictureData
    from .folder import RunFolder

__all__ = [
    "of_pictures",
    "read_resumed_settings",
    "read_settings",
    "refuse_lost_pictures",
    "seen_from_here",
    "with_format",
]

_CHANGEABLE = ("output_dir", "tracking.uri", "trainer.max_epochs", "trainer.max_time")


def read_settings(overrides: Sequence[str]) -> RunSettings:
    """Return the settings of a new run, or with `resume=RUN` those of RUN.

    Raises:
        ConfigError: they are wrong, change nothing, or RUN cannot go on.
    """
    if by_key(overrides).get("resume", "resume=null") == "resume=null":
        return read_run_settings(overrides)
    return read_resumed_settings(overrides)


def read_resumed_settings(overrides: Sequence[str]) -> RunSettings:
    """Return the settings of the run that `resume=RUN` names.

    Raises:
        ConfigError: there is no such run, or an override would change it.
    """
    given = {key_of_override(override): value_of(override) for override in overrides}
    for key, value in given.items():
        if isinstance(value, str) and not value.strip():
            raise ConfigError(f"{key} is empty: give it a value or leave it out.")
        if key not in ("resume", *_CHANGEABLE):
            raise ConfigError(
                f"{key}: a resumed run keeps its settings; beside resume only "
                f"{', '.join(_CHANGEABLE)} may be given."
            )
    folder, plain = _run_to_resume(str(given["resume"]), str(given.get("output_dir", "outputs")))
    place = given.get("output_dir")
    if place is not None and Path(str(place)).resolve() != folder.output_dir.resolve():
        raise ConfigError(
            f"output_dir is {str(place)!r}, but {folder.name} lies in {folder.output_dir}, and "
            "stays there: leave output_dir out."
        )
    plain |= {"resume": str(folder.path), "output_dir": str(folder.output_dir)}
    for key, value in given.items():
        group, _, name = key.partition(".")
        if name:
            plain.setdefault(group, {})[name] = value
    settings = stored_settings(plain)
    refuse_idle(given, settings)
    lengths = [key for key in given if key.startswith("trainer.")]
    if lengths and settings.cv.is_whole:
        raise ConfigError(
            f"{lengths[0]}: the folds that have ended keep theirs; begin a new cross-validation."
        )
    if lengths and settings.cv.fold is not None and (whole := _whole_of(folder)) is not None:
        raise ConfigError(
            f"{lengths[0]}: {folder.name} is a fold of {whole}, whose figures are of all folds as "
            "they are: begin a new cross-validation."
        )
    return settings


def _run_to_resume(run: str, output_dir: str) -> tuple[RunFolder, dict[str, Any]]:
    """Return a run that is to go on, and its settings as they are written."""
    from .folder import RunFolder

    try:
        folder = RunFolder.find(run, Path(output_dir))
        plain = folder.plain_settings()
    except FileNotFoundError as error:
        raise ConfigError(
            f"resume: {error.filename} is gone: put a copy of it back, or begin a new run."
        ) from error
    except (ValueError, OSError, yaml.YAMLError) as error:
        refused = refusal(error) if isinstance(error, OSError) else None
        raise ConfigError(f"resume: {refused or error}.") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"resume: {folder.config} is damaged: it holds no settings.")
    return folder, plain


def _whole_of(fold: RunFolder) -> str | None:
    """Return the name of the cross-validation that a fold belongs to; None where there is none."""
    from .fold_records import FoldBook
    from .folder import FOLDS, RunFolder

    for file in fold.path.parent.glob(f"*/{FOLDS}"):
        with suppress(ValueError):  # damaged files are reported where they are used
            book = FoldBook.read(RunFolder.open(file.parent))
            if book is not None and fold.name in book.runs.values():
                return file.parent.name
    return None


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


def with_format(settings: RunSettings, data: PictureData) -> RunSettings:
    """Return the settings with the size, channels or bands, and range that pictures were given."""
    form = data.pictures.format
    values = None if form.value_range is None else list(form.value_range)
    size = list(form.image_size)
    stated = replace(settings.data, image_size=size, value_range=values)
    if form.bands is None:
        stated = replace(stated, channels=form.channels)
    else:
        stated = replace(stated, bands=list(form.bands))
    return replace(settings, data=stated)
