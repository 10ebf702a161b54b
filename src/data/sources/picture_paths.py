"""The picture files that a path or pattern stands for, and those that are left out."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...machine.regular_files import file_fault
from ...machine.text import counted
from ..decoding.picture_files import PICTURE_ENDINGS, PictureError, read_header
from ..decoding.videos import VIDEO_ENDINGS
from .archive import ARCHIVE_ENDINGS
from .mask_names import masks_among
from .source import Problem, is_left_behind
from .unread_kinds import unread_kind

__all__ = ["FoundPictures", "each_picture", "find_pictures", "without_masks"]

_log = logging.getLogger(__name__)
_WANTED = "picture file or folder"


@dataclass
class FoundPictures:
    """The files that a path stands for, each once and in a fixed order."""

    # Of files that are pictures by their ending, or by their first bytes.
    pictures: list[str] = field(default_factory=list)
    # All other files, and folders that cannot be listed.
    left_out: list[Problem] = field(default_factory=list)
    # How many files and folders were not looked at, for they are hidden or the system's.
    hidden: int = 0


def find_pictures(images: str) -> FoundPictures:
    """Return the picture files that a path or pattern stands for.

    A file stands for itself, whatever its ending; a folder for the pictures below it, also behind
    links to folders, hidden ones aside. What does not exist is a pattern: `*` and `?` within a
    name, `[...]` one of several letters, `**` any folders. It stands for all pictures among the
    files and folders that it matches.

    Raises:
        ValueError: there is nothing there, nothing matches, no picture is among it, or it is an
            archive or an address.
    """
    if os.path.isfile(images):
        if images.lower().endswith(ARCHIVE_ENDINGS):
            raise ValueError(f"{images} is an archive: unpack it, and name the folder")
        if (fault := _no_picture(images)) and unread_kind(images):
            raise ValueError(f"{images} {fault}")
        return FoundPictures([images])
    if "://" in images:
        raise ValueError(f"{images} is an address, and pictures are read from files: fetch it")
    kinds = ", ".join(sorted(PICTURE_ENDINGS))
    if os.path.isdir(images):
        found = _sorted_out([images])
        if not found.pictures:
            raise ValueError(f"{images} holds no picture ({kinds}){_instead(found)}")
        return found
    if os.path.lexists(images) or not glob.has_magic(images):
        raise ValueError(f"{images} {file_fault(images, wanted=_WANTED)}")
    matches = glob.glob(images, recursive=True)
    if not matches:
        raise ValueError(f"nothing matches {images}")
    found = _sorted_out(matches)
    if not found.pictures:
        count = counted(len(matches), "name")
        raise ValueError(f"{images} matches {count}, but no picture ({kinds}){_instead(found)}")
    return found


def without_masks(
    found: FoundPictures, images: str, *, by_kind: bool = False
) -> tuple[FoundPictures, str]:
    """Return files without masks that lie beside their pictures, which a training leaves out, too.

    Args:
        found: the files of `images`.
        images: path or pattern; what it matches alone, such as `*_mask.png`, is wanted.
        by_kind: whether a PNG file is the mask of another file of its name. Where no masks were
            learnt from, both may be pictures, such as a photo saved twice.

    Returns:
        What is left, and a remark on what is not; "" where that is nothing.
    """
    named = re.split("[*?[]", images, maxsplit=1)[0]
    top = images if os.path.isdir(images) else os.path.dirname(named)
    start = len(os.path.join(top, ""))
    below = {f"./{path[start:].replace(os.sep, '/')}": path for path in found.pictures}
    masks = {below[one] for one in masks_among({".": [*below]}, by_kind=by_kind)}
    if not masks:
        return found, ""
    left = replace(found, pictures=[path for path in found.pictures if path not in masks])
    them = "it" if len(masks) == 1 else "them"
    return left, (
        f"left out: {counted(len(masks), 'file')} with the name of another picture, taken for its "
        f"mask, such as {min(masks)}; a path or pattern without the others takes {them}"
    )


def each_picture(pictures: Any) -> Iterator[Any]:
    """Yield single pictures of one or several; of paths and patterns the files, as `Path`.

    Anything else is yielded as it is. Files of a folder that are no pictures, or that are masks of
    others, are named in the log.

    Raises:
        ValueError: as `find_pictures`.
    """
    one_alone = isinstance(pictures, str | bytes | bytearray | memoryview)
    several = isinstance(pictures, Sequence) and not one_alone
    for one in pictures if several else [pictures]:
        if not isinstance(one, str | Path):
            yield one
            continue
        found, masks = without_masks(find_pictures(str(one)), str(one))
        if masks:
            _log.info(masks)
        for problem in found.left_out:
            _log.info("skipped %s", problem)
        yield from map(Path, found.pictures)


def _sorted_out(matches: list[str]) -> FoundPictures:
    """Return the files of these paths and below them, as pictures and others."""
    found, seen = FoundPictures(), set[tuple[int, int]]()
    noted: dict[str, str] = {}
    # `**` matches folders and what is in them: every file once.
    files = {file for match in sorted(matches) for file in _files(match, found, seen, noted)}
    for file in sorted(files):
        if (reason := _no_picture(file)) is None:
            found.pictures.append(file)
        else:
            noted[file] = reason
    found.left_out = [Problem(path, reason) for path, reason in noted.items()]
    return found


def _files(
    path: str, found: FoundPictures, seen: set[tuple[int, int]], noted: dict[str, str]
) -> Iterator[str]:
    """Yield the path itself if it is no folder; else all that is no folder below it.

    Each folder counts once however many links lead to it: those in `seen` are left out. Why folders
    are not listed is `noted` by their paths, and what is hidden is counted.
    """
    if not os.path.isdir(path):
        yield path
        return

    def unlisted(error: OSError) -> None:
        noted[str(error.filename)] = f"cannot be listed: {error.strerror}"

    for folder, inside, names in os.walk(path, onerror=unlisted, followlinks=True):
        status = os.stat(folder)
        place = status.st_dev, status.st_ino
        if place in seen:
            if os.path.islink(folder):
                noted.setdefault(folder, "is a link to a folder that is listed already")
            inside.clear()
            continue
        seen.add(place)
        found.hidden += sum(map(is_left_behind, (*inside, *names)))
        inside[:] = sorted(name for name in inside if not is_left_behind(name))
        yield from (os.path.join(folder, name) for name in names if not is_left_behind(name))


def _no_picture(path: str) -> str | None:
    """Return why a file is no picture; None for one by its ending or its first bytes."""
    if not os.path.isfile(path):
        return file_fault(path, wanted=_WANTED)
    ending = os.path.splitext(path)[1].lower()
    if ending in PICTURE_ENDINGS:
        return None
    if ending not in VIDEO_ENDINGS and (kind := unread_kind(path)):
        return kind
    try:
        with Path(path).open("rb") as stream:
            read_header(stream)
    except PictureError as error:
        return str(error)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    return None


def _instead(found: FoundPictures) -> str:
    """Return the first file that is no picture, for a message, with the number of others."""
    if not found.left_out:
        return ""
    first = found.left_out[0]
    more = len(found.left_out) - 1
    return f": {first}" + (f"; and {more} more" if more else "")
