"""Verification of the stores in the cache folder; damaged entries can be made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from src.data.quality.audit import Findings
from src.storage.cache import UNFINISHED, check_again, read_entry
from src.storage.digests import DamagedLine, line_content
from src.verification.faults import Fault

__all__ = ["verify_stores"]

# The kinds of entries, each a folder of folders; see `src.storage.cache`.
_ENTRIES = ("pictures", "features", "activations", "examined", "archives")


def verify_stores(cache_dir: Path, *, repair: bool) -> tuple[int, Iterator[Fault]]:
    """Return how many entries the cache has, and their faults.

    Args:
        cache_dir: the project's cache folder.
        repair: whether to delete damaged entries, which are made anew when they are needed.
    """
    check_again()
    kinds: list[tuple[str, str, Callable[[Path], bool]]] = [
        *((kind, "*/", lambda folder: read_entry(folder) is not None) for kind in _ENTRIES),
        ("findings", "*.npz", lambda file: Findings.load(file) is not None),
        ("plans", "*.json", _line_is_whole),
    ]
    entries = [
        (path, is_whole)
        for folder, pattern, is_whole in kinds
        for path in sorted((cache_dir / folder).glob(pattern))
        if path.suffix != UNFINISHED
    ]
    return len(entries), _faults(entries, repair=repair)


def _faults(entries: list[tuple[Path, Callable[[Path], bool]]], *, repair: bool) -> Iterator[Fault]:
    for path, is_whole in entries:
        if is_whole(path):
            continue
        what = "its content is not what was written"
        if not repair:
            yield Fault(path, what, "it is made anew when it is needed; repair=true deletes it")
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        yield Fault(path, what, "deleted; it is made anew when it is needed", True)


def _line_is_whole(file: Path) -> bool:
    try:
        line_content(file.read_bytes())
    except (OSError, DamagedLine):
        return False
    return True
