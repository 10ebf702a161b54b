"""Which picture files a person means by a path."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from src.data.decode import PICTURE_ENDINGS

__all__ = ["find_pictures"]


def find_pictures(images: str) -> list[str]:
    """The paths of the picture files that `images` means, in a fixed order.

    A file is meant itself, whatever its ending. A folder means the pictures below it, hidden ones
    aside. What does not exist is a pattern: `*` and `?` within a name, `[...]` one of several
    letters, `**` any folders; of what it matches, files and folders, all pictures are meant.

    Raises:
        ValueError: there is nothing there, nothing matches, or no picture is among it.
    """
    path = Path(images)
    kinds = ", ".join(sorted(PICTURE_ENDINGS))
    if path.is_file():
        return [images]
    if path.is_dir():
        found = sorted(_below(images))
        if not found:
            raise ValueError(f"{images} holds no picture ({kinds})")
        return found
    if not glob.has_magic(images):
        raise ValueError(f"{images} does not exist")
    matches = glob.glob(images, recursive=True)
    if not matches:
        raise ValueError(f"nothing matches {images}")
    # `**` matches folders and what is in them: every file once.
    found = sorted({file for match in matches for file in _meant(match)})
    if not found:
        count = "1 name" if len(matches) == 1 else f"{len(matches)} names"
        raise ValueError(f"{images} matches {count}, but no picture ({kinds})")
    return found


def _meant(match: str) -> Iterator[str]:
    if os.path.isdir(match):
        yield from _below(match)
    elif _is_picture(match):
        yield match


def _below(folder: str) -> Iterator[str]:
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in names:
            path = os.path.join(where, name)
            if not name.startswith(".") and _is_picture(path):
                yield path


def _is_picture(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in PICTURE_ENDINGS and os.path.isfile(path)
