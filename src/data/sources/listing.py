"""Whether a root is there, where the files of published sets may lie, and what is left of a set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock

from ...config.checks import ConfigError
from ...machine.regular_files import file_fault
from ...targets.labels import has_class
from .source import Source

__all__ = ["existing_root", "find_published", "without"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


def existing_root(root: Path) -> Path:
    """Return `root` if there is such a file or folder.

    Raises:
        ConfigError: there is none, or it is a device or a pipe.
    """
    try:
        if root.is_dir() or root.is_file():
            return root
        if root.exists():
            fault = file_fault(root, wanted="file or folder")
            raise ConfigError(f"data.root is {str(root)!r}, which {fault}.")
    except OSError as error:
        raise ConfigError(
            f"data.root is {str(root)!r}, which cannot be read: {error.strerror}."
        ) from None
    hint = ""
    if root.parts and root.parts[0].startswith("~"):
        hint = " A path is taken literally: write out what ~ stands for."
    raise ConfigError(f"data.root is {str(root)!r}: there is no such file or folder.{hint}")


def find_published(
    name: str,
    torchvision_name: str,
    find: Callable[[Path], T | None],
    *,
    places: Sequence[Path],
    folder: Path | None,
    files: str,
    put: Path,
) -> T:
    """Return what is found of a published data set, downloaded by way of torchvision if need be.

    Args:
        name, torchvision_name: of the data set, and of its class in `torchvision.datasets`.
        find: from a place to what is in it; None where the set is not there.
        places: where to look.
        folder: to download into, while no other process does; None to download nothing.
        files: what is looked for, for messages.
        put: where it is after a download, and may be put instead.

    Raises:
        ConfigError: it is nowhere, or the download failed; says which files to put where instead.
    """
    advice = f"Put {files} into {put}, or name the folder that has them with data.root=FOLDER."
    found = next((one for place in places if (one := find(place)) is not None), None)
    if found is None and folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{name}.lock"):
                from torchvision import datasets

                _log.info("fetching %s into %s", name, folder)
                getattr(datasets, torchvision_name)(folder, download=True)
        # URLError, timeouts and full disks are OSErrors; torchvision adds RuntimeError of its own.
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"{name} is not on this machine and could not be downloaded ({reason}). {advice}"
            ) from None
        found = find(put)
    if found is None:
        looked = " and ".join(map(str, places))
        raise ConfigError(f"{name} is not on this machine (looked in {looked}). {advice}")
    return found


def without(source: Source, reasons: Mapping[int, str]) -> Source:
    """Return a source of N pictures without those that cannot be used.

    `reasons` says of these, by their indices in [0, N), why; some others are left.

    Raises:
        ConfigError: no picture of a class is left.
    """
    usable = source.only(np.array([i for i in range(len(source)) if i not in reasons], np.int64))
    for label in sorted(set(source.class_names) - set(usable.class_names)):
        own = has_class(source.targets, source.class_names.index(label))
        members = np.flatnonzero(own).tolist()
        raise ConfigError(
            f"{source.name}: no picture of the class {label} can be used ({len(members)}), for "
            f"{source.sample_name(members[0])} {reasons[members[0]]}. Repair them, or take the "
            "class out of the data."
        )
    return usable
