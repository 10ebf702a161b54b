"""Errors of disks as sentences for the user: cause, place and remedy."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .file_names import encoding_fault
from .text import text_fault, visible

__all__ = [
    "NO_ROOM",
    "OF_THE_PROCESS",
    "free_bytes",
    "named_file",
    "refusal",
    "refusal_of_folder",
    "size_text",
]

# The errors of a full disk, of a quota, and of a limit on the size of files.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Errors of opening and reading that concern the process and not the file.
OF_THE_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
# With this much free space, the error was on another disk.
_PLENTY_BYTES = 1 << 30
# What Python's `tempfile` says before the list of the folders that it tried.
_NO_TEMPORARY = "No usable temporary directory found in "
_ROOM_FOR = "what was there before is whole, so make room and try again"


def free_bytes(folder: Path) -> int:
    """Return the room that is left on the disk of a folder, which may be missing."""
    return shutil.disk_usage(_existing(folder)).free


def size_text(size: float) -> str:
    """Return a number of bytes with a unit in which it has digits, such as 30.2 kB."""
    for least, factor, unit in ((1e9, 1e9, "GB"), (1e5, 1e6, "MB")):
        if size >= least:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"


def refusal(
    error: OSError, folder: Path | str | None = None, needed_bytes: int | None = None
) -> str | None:
    """Return why a file could not be written and the remedy, without a full stop, or None.

    None is for errors that are not the disk's.

    Args:
        error: of the attempt.
        folder: of the file; None where only an error that names its file is meant, as that of a
            lock or of a socket does not.
        needed_bytes: size of the file, where known.
    """
    if error.errno == errno.ENOENT and _NO_TEMPORARY in str(error):
        return (
            "temporary files cannot be written in any of "
            f"{str(error).partition(_NO_TEMPORARY)[2]}: make room in one of them, or set TMPDIR to "
            "a folder that has some"
        )
    file = _file_of(error)
    place = file.parent if file else None if folder is None else Path(folder)
    if place is None:
        return None
    match error.errno:
        case errno.ENOSPC:
            return _no_room(place, needed_bytes, guessed=file is None)
        case errno.EDQUOT:
            return f"your quota on the disk of {place} is used up: {_ROOM_FOR}, or ask for more"
        case errno.EFBIG:
            return (
                f"a file in {place} may not become that large{_needed(needed_bytes)}: raise the "
                "limit on the size of files (ulimit -f), or use another file system"
            )
        case errno.EROFS:
            # A file that is not there may be a temporary one, of which a person knows nothing.
            there = file if file is not None and os.path.exists(file) else place
            return (
                f"{there} lies on a file system that is mounted read-only: mount it for writing, "
                "or name a folder elsewhere"
            )
        case errno.EACCES | errno.EPERM:
            return _no_permission(file, place)
        case errno.EIO | errno.ESTALE:
            return (
                f"the disk of {place} fails ({os.strerror(error.errno)}): see whether it is still "
                "there and sound, or name a folder elsewhere"
            )
        case errno.ENOLCK:
            return (
                f"the file system of {place} has no locks, by which processes that share a folder "
                "wait for each other: have it mounted with them (flock), or name a folder elsewhere"
            )
        case errno.ENOTDIR | errno.EEXIST if file:
            return f"{file} cannot be made: a file is where a folder has to be; move it away"
        case errno.EISDIR if file:
            return f"{file} is a folder, where a file has to be: move it away"
        case errno.EMFILE | errno.ENFILE:
            return f"too many files are open to open {file or place}: raise ulimit -n"
    return None


def refusal_of_folder(folder: Path) -> str | None:
    """Return why nothing could be written to a folder, which may be missing; None if it could.

    Nothing is written to find out: a full disk shows later.
    """
    if text_fault(str(folder)):  # Arrow and databases take paths in UTF-8 alone
        named = visible(str(folder))
        return f"{named} has a name that is no valid UTF-8: rename it, or choose another folder"
    if fault := encoding_fault(str(folder)):
        return f"{visible(str(folder))}: {fault}"
    there = _existing(folder)
    for place in (folder, *folder.parents):
        if place == there:
            break
        if os.path.lexists(place):  # a file, or a link to nowhere
            return refusal(OSError(errno.ENOTDIR, "", str(place)))
    if not os.path.isdir(there) or os.access(there, os.W_OK | os.X_OK):
        return None
    read_only = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
    return refusal(OSError(errno.EROFS if read_only else errno.EACCES, "", str(folder)))


@contextmanager
def named_file(path: Path | str) -> Iterator[None]:
    """Add the file's name to errors of a full disk, which those of writing lack."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM and error.filename is None:
            error.filename = str(path)
        raise


def _file_of(error: OSError) -> Path | None:
    # An error of copying or renaming names the source first and the target second.
    target = error.filename2 if error.errno in (*NO_ROOM, errno.EISDIR) else None
    named = target or error.filename
    return Path(named) if isinstance(named, str) and named else None


def _no_room(place: Path, needed_bytes: int | None, *, guessed: bool) -> str:
    there = _existing(place)
    if hasattr(os, "statvfs") and (state := os.statvfs(there)).f_files and not state.f_favail:
        return (
            f"there is no room for another file in {place}: its disk has room but no free inodes, "
            "for it holds too many files; remove some (old runs, caches) and try again"
        )
    room = free_bytes(place)
    # What is known to be needed is without the file's own structure: by itself it might have fit.
    needed = _needed(needed_bytes) if (needed_bytes or 0) > room else ""
    free = f"{room / 1e6:,.1f} MB"
    if guessed and room > _PLENTY_BYTES:
        return (
            f"there is no room for another file on a disk{needed}; that of {place} has {free}, so "
            "look at those of output_dir, of the cache and of temporary files; what was there "
            "before is whole"
        )
    left = f"{free} of its disk are free{needed}"
    if not needed:  # what did not fit is no longer there
        left = f"its disk ran full, and without it has {free} free"
    return f"there is no room for another file in {place}: {left}; {_ROOM_FOR}"


def _needed(size: int | None) -> str:
    return "" if size is None else f", some {size_text(size)} are needed"


def _no_permission(file: Path | None, place: Path) -> str:
    # What `Path.exists` asks raises the error again.
    there = file if file is not None and os.path.exists(file) else None
    if there is not None and not os.access(there, os.R_OK):
        return f"you may not read {there}: give yourself permission (chmod, chown)"
    if there is None and not os.access(folder := _existing(place), os.X_OK):
        return (
            f"you may not look into {folder}: give yourself permission (chmod, chown), or name "
            "another folder"
        )
    return (
        f"you may not write to {there or _existing(place)}: give yourself permission (chmod, "
        "chown), or name a folder of your own"
    )


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    while not os.path.isdir(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
