"""Folders that travel between the driver and workers which do not share a disk.

What travels is a parcel: a tar archive in a temporary file, sent in chunks and verified by its
SHA-256 before anything is unpacked. A folder that the other side has had before travels as the
files that changed since; files that only the other side has stay there, and locks never travel.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from ...storage.digests import file_state

__all__ = ["ASIDE", "CHUNK_BYTES", "DamagedParcel", "Incoming", "Outgoing", "States", "states"]

CHUNK_BYTES = 2 << 20
# How the names of folders begin in which parcels are unpacked; a killed process leaves its own.
ASIDE = "arriving-"
_MANIFEST = "folders.json"

# What `file_state` returns, by the path of a file below its folder.
States = Mapping[str, tuple[int, ...]]


class DamagedParcel(ValueError):
    """A parcel did not arrive as it was sent."""


def states(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the state of all files below a folder but locks, in the order in which they changed.

    Where a file system knows no `flock`, the file of a lock is what others wait for.
    """
    found = {
        path.relative_to(folder).as_posix(): file_state(path.stat())
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }
    return dict(sorted(found.items(), key=lambda item: item[1][1]))


@dataclass(frozen=True)
class Outgoing:
    """A packed parcel: its temporary file, size in bytes and SHA-256."""

    size: int
    digest: str
    _file: IO[bytes] = field(repr=False)

    @classmethod
    def pack(cls, folders: Mapping[Path, States | None], scratch: Path) -> Self:
        """Pack folders into a temporary file in `scratch`, which is made where it is missing.

        Args:
            folders: with the states that their files had when the other side had the same, or None
                for a folder that it does not have.

        Raises:
            OSError: a file cannot be read, or the parcel not be written.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - `close` does
        manifest, members = [], []
        for number, (folder, before) in enumerate(folders.items()):
            now = states(folder)
            removed = None if before is None else sorted(before.keys() - now.keys())
            manifest.append({"path": str(folder), "removed": removed})
            changed = [name for name in now if before is None or before.get(name) != now[name]]
            members += [(folder / name, f"{number}/{name}") for name in changed]
        with tarfile.open(fileobj=file, mode="w", dereference=True) as archive:
            content = json.dumps(manifest).encode()
            about = tarfile.TarInfo(_MANIFEST)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
            for path, name in members:
                archive.add(path, name, recursive=False)
        size = file.tell()
        return cls(size, _digest(file), file)

    def chunk(self, offset: int) -> bytes:
        """Return at most `CHUNK_BYTES` from this byte on."""
        self._file.seek(offset)
        return self._file.read(CHUNK_BYTES)

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()


class Incoming:
    """A parcel that arrives, in a temporary file in `scratch`, which is made where it is missing.

    Args:
        size, digest: see `Outgoing`.
    """

    def __init__(self, size: int, digest: str, scratch: Path) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._size, self._digest = size, digest
        self._scratch = scratch
        self._file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - `close` does

    @property
    def offset(self) -> int:
        """Bytes that have arrived."""
        return self._file.tell()

    def add(self, chunk: bytes) -> bool:
        """Take the next chunk; return whether it is the last one."""
        self._file.write(chunk)
        return self.offset >= self._size

    def unpack(self, *, replace: bool) -> list[Path]:
        """Put the folders where they belong, and return those that were put there.

        Files are written aside and renamed: a new folder as a whole, else one file after another in
        the order in which they changed, so that none is there before what it speaks of.

        Args:
            replace: whether a folder that is sent as a new one takes the place of one that is here;
                else that is left as it is.

        Raises:
            DamagedParcel: the content is not what was sent.
            OSError: it cannot be written.
        """
        if _digest(self._file) != self._digest:
            raise DamagedParcel("a folder did not arrive as it was sent")
        self._file.seek(0)
        with (
            tarfile.open(fileobj=self._file) as archive,
            tempfile.TemporaryDirectory(prefix=ASIDE, dir=self._scratch) as aside,
        ):
            archive.extractall(aside, filter="data")
            manifest = json.loads((Path(aside) / _MANIFEST).read_bytes())
            done = []
            for number, one in enumerate(manifest):
                target, content = Path(one["path"]), Path(aside) / str(number)
                content.mkdir(exist_ok=True)  # nothing may have changed
                if one["removed"] is None:
                    if target.exists() and not replace:
                        continue
                    shutil.rmtree(target, ignore_errors=True)
                _put(content, target, one["removed"] or ())
                done.append(target)
        return done

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()


def _put(content: Path, target: Path, removed: Iterable[str]) -> None:
    """Move a folder to where it belongs, or its files to those that are there."""
    changed = states(content)
    for name in changed:
        with (content / name).open("rb") as file:
            os.fsync(file.fileno())
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        content.rename(target)
        return
    for name in changed:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(content / name, target / name)
    for name in removed:
        (target / name).unlink(missing_ok=True)


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
