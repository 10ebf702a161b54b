"""Where the cache is, for this project and for matplotlib where it has no place of its own."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["cache_place", "place_for_matplotlib"]

# Also matplotlib's, which reads it once, when it is imported; worker processes inherit it.
_MATPLOTLIB = "MPLCONFIGDIR"


def cache_place(cache_dir: str | None) -> Path:
    """Return the cache's folder: the given one, else $BAKEOFF_CACHE, else bakeoff in the user's.

    Raises:
        RuntimeError: none is given, and the user has no home folder.
    """
    if given := cache_dir or os.environ.get("BAKEOFF_CACHE"):
        return Path(given)
    return _of_the_user() / "bakeoff"


def place_for_matplotlib(cache_dir: str | None) -> None:
    """Have matplotlib keep its list of fonts in the cache, where it cannot in the home folder.

    It would warn in two lines and make the list anew, which takes seconds, in every process.
    Nothing is changed where MPLCONFIGDIR is set.
    """
    if os.environ.get(_MATPLOTLIB) or all(map(_can_be_written, _matplotlibs_own())):
        return
    with suppress(RuntimeError):  # said when the cache is used
        os.environ[_MATPLOTLIB] = str(cache_place(cache_dir).absolute() / "matplotlib")


def _matplotlibs_own() -> list[Path]:
    """Return the folders that matplotlib takes; on Windows and macOS others are not looked at."""
    try:
        home = Path.home()
    except RuntimeError:  # of a user without a name, whom containers and jobs may have
        home = Path(os.devnull)
    if sys.platform in ("win32", "darwin"):
        return [home / ".matplotlib"]
    kinds = (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache"))
    return [Path(os.environ.get(name) or home / own, "matplotlib") for name, own in kinds]


def _can_be_written(folder: Path) -> bool:
    """Return whether a folder can be written, or made."""
    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _of_the_user() -> Path:
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base)
