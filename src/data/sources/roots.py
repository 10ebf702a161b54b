"""The place of a data set's files: a root that is there, or where a published set may be."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import TypeVar

from ...config.checks import ConfigError
from ...machine.regular_files import file_fault
from ...storage.locks import ProcessLock

__all__ = ["existing_root", "find_published", "root_beside"]

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
    if any(part.startswith("~") for part in root.parts):
        hint = " A path is taken literally: write out what ~ stands for."
    if any(PureWindowsPath(part).drive for part in root.parts):
        hint = " It is a path of Windows; in WSL, C:\\photos is /mnt/c/photos."
    raise ConfigError(f"data.root is {str(root)!r}: there is no such file or folder.{hint}")


def root_beside(root: str | None, folder: Path) -> str | None:
    """Return the root of earlier settings as it is found from here.

    A relative one that is not there may lie in `folder`, where the command was given that wrote it
    down: this one may be given elsewhere. Whether it holds the same pictures is not looked at.
    """
    if root is None or "://" in root or os.path.lexists(root):
        return root
    beside = folder / root  # an absolute root stays as it is
    return str(beside) if os.path.lexists(beside) else root


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
            with ProcessLock(folder / f"{name}.lock"):
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
