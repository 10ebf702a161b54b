"""Files that a person names: plain ones of a bounded size, and what else a path may be."""

from __future__ import annotations

import math
import os
import stat
from contextlib import suppress
from pathlib import Path

__all__ = ["file_fault", "odd_file", "refuse_odd_files"]

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def file_fault(
    path: Path | str, most_bytes: float = math.inf, *, wanted: str = "file"
) -> str | None:
    """Return why a file is not read, to be read after its path; None where nothing is against it.

    A device gives bytes for ever and a pipe may never give one, so they are found before they are
    opened; links are followed.

    Args:
        path: of the file.
        most_bytes: that it may have.
        wanted: what is needed instead of a device.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "is a link to nothing" if os.path.islink(path) else "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be opened: {getattr(error, 'strerror', None) or error}"
    if not stat.S_ISREG(status.st_mode):
        kinds = (name for test, name in _KINDS if test(status.st_mode))
        return f"is {next(kinds, 'something else')}, and no {wanted}"
    if status.st_size > most_bytes:
        return f"has {status.st_size / 1e6:,.0f} MB; the limit is {most_bytes / 1e6:,.0f} MB"
    return None


def odd_file(*folders: Path) -> tuple[Path, str] | None:
    """Return a device, pipe or socket that lies in one of these folders, and what it is.

    Who reads the files of a folder would wait for it for ever, or read without an end. Logs are
    read by people alone.
    """
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with suppress(OSError):  # a link to itself ends with an error by itself
                    usual = entry.is_file() or entry.is_dir() or not os.path.exists(entry)
                    if usual or entry.name.endswith(".log"):
                        continue
                    return Path(entry.path), file_fault(entry.path) or ""
    return None


def refuse_odd_files(*folders: Path) -> None:
    """Raise a ValueError where `odd_file` finds something; the message is a clause."""
    if odd := odd_file(*folders):
        raise ValueError(f"{odd[0]} {odd[1]}: remove it, and put a copy of the file back")
