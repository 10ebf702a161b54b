"""Verification of the stores in the cache folder; damaged entries can be made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from src.data.decoding.decoded import is_whole_entry
from src.data.quality.findings import NOT_WHOLE
from src.features.table import is_whole_table
from src.storage.blocks import check_again, has_its_checksums
from src.storage.digests import DamagedLine, line_content
from src.verification.faults import Fault

__all__ = ["verify_stores"]


def verify_stores(cache_dir: Path, *, repair: bool) -> tuple[int, Iterator[Fault]]:
    """Return how many entries the stores have, and their faults.

    Args:
        cache_dir: the project's cache folder.
        repair: whether to delete damaged entries, which are made anew when they are needed.
    """
    check_again()
    kinds: list[tuple[str, str, Callable[[Path], bool]]] = [
        ("pictures", "*/entry.json", lambda file: is_whole_entry(file.parent)),
        ("features", "*/features.npy", lambda file: is_whole_table(file.parent)),
        ("activations", "*/activations.npy", has_its_checksums),
        ("findings", "*.npz", _arrays_are_whole),
        ("examined", "*/*.npz", _arrays_are_whole),
        ("plans", "*.json", _line_is_whole),
    ]
    entries = [
        (file, whole)
        for folder, pattern, whole in kinds
        for file in sorted((cache_dir / folder).glob(pattern))
        if ".unfinished" not in str(file)
    ]
    return len(entries), _faults(entries, repair=repair)


def _faults(entries: list[tuple[Path, Callable[[Path], bool]]], *, repair: bool) -> Iterator[Fault]:
    for file, whole in entries:
        if whole(file):
            continue
        what = "its content is not what was written"
        if not repair:
            yield Fault(file, what, "it is made anew when it is needed; repair=true deletes it")
            continue
        if file.parent.name in ("findings", "plans"):
            file.unlink()
        else:
            shutil.rmtree(file.parent)
        yield Fault(file, what, "deleted; it is made anew when it is needed", True)


def _arrays_are_whole(file: Path) -> bool:
    try:
        with np.load(file, allow_pickle=False) as stored:
            for name in stored.files:
                stored[name]
    except NOT_WHOLE:
        return False
    return True


def _line_is_whole(file: Path) -> bool:
    try:
        line_content(file.read_bytes())
    except (OSError, DamagedLine):
        return False
    return True
