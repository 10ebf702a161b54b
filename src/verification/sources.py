"""Verification of what addresses left in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..data.sources.file_notes import NOTES, FileNotes, counted
from .runs import Fault

__all__ = ["verify_fetched"]


def verify_fetched(cache_dir: Path, *, repair: bool) -> Iterator[Fault]:
    """Yield the faults of files from addresses; `repair` deletes those, which are fetched anew."""
    for place in sorted((cache_dir / "remote").glob("*/")):
        notes, content = FileNotes.read(place / NOTES), place / "content"
        changed = [] if notes is None else notes.changed(content, content=True)
        if not changed:
            continue
        what = f"{counted(changed)} is not what came from the address"
        if not repair:
            yield Fault(content, what, "data.check_content=true and repair=true fetch it anew")
            continue
        for name in changed:
            (content / name).unlink(missing_ok=True)
        yield Fault(content, what, "deleted; it is fetched anew when it is needed", True)
