"""The folder of everything that can be made anew: decoded pictures, features, findings, timings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(cache_dir: str | None) -> Path:
    """Return the cache's folder: the given one, else $BAKEOFF_CACHE, else bakeoff in the user's."""
    if given := cache_dir or os.environ.get("BAKEOFF_CACHE"):
        return Path(given)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "bakeoff"
