"""Where a published data set may be: looking, fetching, and saying what is missing where."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from src.config.checks import ConfigError

__all__ = ["download_once", "existing_root", "missing_files"]

_log = logging.getLogger(__name__)


def existing_root(root: Path) -> Path:
    """`root`, if there is such a file or folder.

    Raises:
        ConfigError: there is none.
    """
    try:
        if root.exists():
            return root
    except OSError as error:
        raise ConfigError(
            f"data.root is {str(root)!r}, which cannot be read: {error.strerror}."
        ) from None
    hint = (
        " A path is taken literally: write out what ~ stands for."
        if root.parts and root.parts[0].startswith("~")
        else ""
    )
    raise ConfigError(f"data.root is {str(root)!r}: there is no such file or folder.{hint}")


def missing_files(name: str, files: str, *, places: Sequence[Path], put: Path) -> ConfigError:
    """The complaint that the data set is not on this machine: which files to put where."""
    looked = " and ".join(str(place) for place in places)
    return ConfigError(
        f"{name} is not on this machine (looked in {looked}). Put {files} into {put}, "
        "or name the folder that has them with data.root=FOLDER."
    )


def download_once(
    name: str, folder: Path, fetch: Callable[[], object], files: str, put: Path
) -> None:
    """Run `fetch`, which writes below `folder`, while no other process does.

    Raises:
        ConfigError: it failed; says which files to put where instead.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            _log.info("fetching %s into %s", name, folder)
            fetch()
    # URLError, timeouts and full disks are OSErrors; torchvision adds RuntimeError of its own.
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"{name} is not on this machine and could not be downloaded "
            f"({' '.join(str(error).split()) or type(error).__name__}). Put {files} into {put}, "
            "or name the folder that has them with data.root=FOLDER."
        ) from None
