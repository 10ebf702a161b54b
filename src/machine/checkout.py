"""Where this code stands, and how another process finds it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["ROOT", "import_environment"]

ROOT = Path(__file__).resolve().parents[2]


def import_environment() -> dict[str, str]:
    """Variables with which `python -m src....` finds this code from whatever folder it starts in.

    The user's own PYTHONPATH comes after it.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Without the second the current folder would come first, and it may have a `src` of its own.
    return {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
