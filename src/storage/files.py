"""Files that are written whole or not at all, whenever a process is killed or a disk is full.

Content is flushed to the disk in a temporary file before that takes the target's name. What a
killed process left beside a target goes with the next write into that folder.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..machine.disk import named_file

__all__ = [
    "copy_folder",
    "remove_leftovers",
    "replacing",
    "temporary_folder",
    "write_atomically",
]

_MARK = ".tmp"
# Names begin with this machine's: a lock of a shared folder may be seen by one machine alone.
_HOST = hashlib.blake2b(platform.node().encode(), digest_size=4).hexdigest()
_OF_THIS_MACHINE = re.compile(rf"\.{_HOST}[0-9a-f]{{24}}{re.escape(_MARK)}(\..*)?", re.DOTALL)


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path, which becomes `path` when the block ends without an exception.

    The temporary file lies in the same folder, because only within one file system is a rename
    atomic; it keeps the suffix, from which some writers guess the format. The folder is made where
    it is missing. Who may read and write the file is left to the umask, whatever its writer says.

    Raises:
        OSError: the folder or the file cannot be written; `path` is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _writing_into(path.parent):
        temporary = path.parent / f"{_temporary_name()}{path.suffix}"
        try:
            with named_file(path):
                yield temporary
                _open_to_others(temporary)
                _flush(temporary)
                os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be opened, and a rename needs no flush
        _flush(path.parent)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in another one, which is removed after the block.

    Raises:
        OSError: it cannot be made.
    """
    with _writing_into(parent):
        folder = parent / _temporary_name()
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: Path | str, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8 with its line ends as they are, whole or not at all.

    What UTF-8 cannot hold, such as a byte of a file name that is none, is written as an escape.

    Raises:
        OSError: the folder or the file cannot be written; `path` is then as it was.
    """
    with replacing(path) as temporary:
        if isinstance(content, str):
            content = content.encode("utf-8", "backslashreplace")
        temporary.write_bytes(content)


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder into another, but for what Python has compiled.

    `shutil.copytree` would go on after a disk is full, and raise an error that does not say so.

    Raises:
        OSError: a file cannot be read or written.
    """
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.parent.name != "__pycache__":
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a process that was killed; no process may be writing there."""
    for temporary in folder.glob(f".*{_MARK}*"):
        temporary.unlink(missing_ok=True)


def _temporary_name() -> str:
    return f".{_HOST}{uuid.uuid4().hex[len(_HOST) :]}{_MARK}"


@contextmanager
def _writing_into(folder: Path) -> Iterator[None]:
    """Hold a lock of a folder, shared with all who write there; who is alone tidies up first.

    The system takes the lock from a process that dies. Nothing is removed where folders have no
    locks, such as on Windows and some network file systems.
    """
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        with suppress(OSError):
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_temporaries(folder)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _remove_temporaries(folder: Path) -> None:
    """Remove the temporary files and folders of this machine; no process may be writing there."""
    with os.scandir(folder) as entries:
        left = [entry.name for entry in entries if _OF_THIS_MACHINE.fullmatch(entry.name)]
    for path in map(folder.joinpath, left):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _open_to_others(path: Path) -> None:
    """Give a file the rights of any new one, where its writer kept it to this user.

    Such as safetensors, so that nobody else could use a model in a folder that is shared.
    """
    if os.name != "posix" or path.stat().st_mode & 0o077:
        return
    # The umask is only told by setting it, which other threads would notice.
    probe = path.with_name(f"{path.name}.rights")
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        path.chmod(os.fstat(descriptor).st_mode & 0o777)
    finally:
        os.close(descriptor)
        probe.unlink()


def _flush(path: Path) -> None:
    """Wait until what the system holds of a file or folder is on the disk."""
    # Windows flushes only what is open for writing; a folder opens for reading alone.
    mode = os.O_RDONLY if path.is_dir() else os.O_RDWR
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
