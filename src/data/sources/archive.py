"""Archives of pictures: extracted once into the cache, without trusting them.

Nothing but plain files is ever created, each below the new folder, for .zip and .tar alike.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import lzma
import math
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tarfile import HeaderError, ReadError
from typing import IO, Any, Self

from ...config.checks import ConfigError
from ...machine.disk import free_bytes, size_text
from ...machine.failures import DiskRefuses
from ...machine.status import doing, with_progress
from ...machine.text import visible
from ...storage.cache import Entry, cached, key_of, shortage
from ...storage.digests import file_state, was_settled
from ...storage.files import write_atomically
from .file_notes import NOTES, FileNotes, shortened_names

__all__ = ["ARCHIVE_ENDINGS", "changed_files", "extract_archive", "forget_archive", "tar_index"]

_log = logging.getLogger(__name__)

ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_CONTENT = "content"
# Pictures hardly shrink in an archive: what grows past both of these is made to fill a disk.
_MAX_RATIO = 200
_FREE_OF_RATIO_BYTES = 10**9
_MAX_FILES = 2_000_000
# Names of members and what tar keeps beside them, such as long names, is read whole into memory.
_MAX_EXTRA_BYTES = 256 << 10
_MAX_HEADER_BYTES = 1 << 20
_MAX_DEPTH = 64
_MAX_PATH = 1024
_NO_PATHS = frozenset((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG))
_EXTRA_KINDS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_CHUNK_BYTES = 1 << 20
_Member = tuple[str, IO[bytes]]  # a plain file's name and content
_LONGEST_NAME = 200
_TOO_LARGE_HEADER = "it has a header of many megabytes, as no picture has"
_TAR_END = tarfile.EOFHeaderError  # type: ignore[attr-defined]  # which the stubs leave out
# A RuntimeError is zipfile's: encrypted, or a compression that it does not know.
_DAMAGE = (
    *(OSError, EOFError, RuntimeError, zlib.error),
    *(lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile),
)


def extract_archive(archive: Path, folder: Path) -> Path:
    """Return the folder with the files of an archive, extracted now or found by its content.

    What was extracted earlier is compared with what was noted of each file then: its size, times
    and inode, and where the archive itself is read anew, its content. Where one differs, all are
    extracted anew.

    Args:
        archive: a .zip, or a .tar, plain or compressed with gzip, xz or bzip2.
        folder: where extracted archives are kept.

    Raises:
        ConfigError: the archive is damaged or encrypted, holds links, devices or paths that lead
            out of it, or unpacks to suspiciously much.
        DiskRefuses: it unpacks to more than the disk has room for.
    """
    key, read = _content_of(archive, folder)
    changed: list[str] = []

    def build(unfinished: Path) -> dict[str, Any]:
        nonlocal read
        read = False
        if changed:
            _log.warning(
                "%s: what was extracted from it is not what it was (%s): it is extracted anew",
                archive,
                shortened_names(changed),
            )
        return _extract(archive, unfinished)

    def complete(entry: Entry) -> bool:
        changed[:] = changed_files(entry.folder, content=read)
        return not changed

    entry = cached(folder / key, build, what=f"the files of {archive}", usable=complete)
    return entry.folder / _CONTENT


def changed_files(entry: Path, *, content: bool) -> list[str]:
    """Return the files in an extracted archive's folder that are not as they were left.

    With `content`, files are read, also those whose size, times and inode are the same.
    """
    notes = FileNotes.read(entry / NOTES)
    if notes is None:
        return [NOTES]
    if changed := notes.changed(entry / _CONTENT, content=content):
        return changed
    there = sum(len(names) for _, _, names in os.walk(entry / _CONTENT))
    return [] if there == len(notes) else ["a file that was added"]


def forget_archive(archive: Path, folder: Path) -> None:
    """Remove the note of an archive's content, so that the archive is read the next time."""
    _note_of(archive, folder).unlink(missing_ok=True)


def _note_of(archive: Path, folder: Path) -> Path:
    return folder / f"{key_of('note', os.fsencode(archive.absolute()))}.json"


def _content_of(archive: Path, folder: Path) -> tuple[str, bool]:
    """Return the hash of an archive's bytes, 32 hexadecimal digits, and whether it was read now.

    Otherwise there was a note of it.
    """
    note = _note_of(archive, folder)
    try:
        state = list(file_state(archive.stat()))
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(note.read_text())
            if known["state"] == state:
                return str(known["content"]), False
        with doing(f"reading {visible(archive.name)}"), archive.open("rb") as stream:
            content = hashlib.file_digest(
                stream, lambda: hashlib.blake2b(digest_size=16)
            ).hexdigest()
    except OSError as error:
        raise _damaged(archive, error) from error
    if was_settled(state[1], state[2]):
        # An error of the disk is raised for the entry, which is written next.
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(note, json.dumps({"state": state, "content": content}))
    return content, True


def _extract(archive: Path, target: Path) -> dict[str, Any]:
    content = target / _CONTENT
    content.mkdir()
    size = archive.stat().st_size
    room = free_bytes(target)
    by_ratio = max(_FREE_OF_RATIO_BYTES, _MAX_RATIO * size)
    notes = FileNotes()
    made: set[str] = set()
    total = 0
    _log.info("extracting %s once", archive)
    for name, stream in with_progress(_members(archive), None, "files extracted"):
        inside = _inside(archive, name)
        path, checksum = f"{content}/{inside}", 0
        with _created(archive, path, made) as file:
            while chunk := _chunk(archive, stream):
                total += len(chunk)
                if total > by_ratio:
                    raise ConfigError(
                        f"{archive} ({size} bytes) unpacks to more than {by_ratio} bytes, as only "
                        "archives do that are made to fill a disk. If you trust it, extract it "
                        "yourself and name the folder with data.root."
                    )
                if total > room:
                    raise DiskRefuses(
                        f"{archive} unpacks to more than the {size_text(room)} that are free in "
                        f"{target.parent}: make room, or name another folder with data.cache_dir"
                    )
                file.write(chunk)
                checksum = zlib.crc32(chunk, checksum)
        notes.add(inside, path, checksum)
    notes.write(target / NOTES)
    return {}


def _created(archive: Path, path: str, made: set[str]) -> IO[bytes]:
    """Return a new file, open for writing, whose folder is made unless it is among the `made`."""
    folder, _, name = path.rpartition("/")
    try:
        if folder not in made:
            os.makedirs(folder, exist_ok=True)
            made.add(folder)
        return open(path, "wb")
    except OSError as error:
        if error.errno not in _NO_PATHS:
            raise
        raise ConfigError(
            f"{archive} holds {_shown(name)} at a place where no file can be "
            f"({error.strerror}): extract it yourself and name the folder with data.root."
        ) from error


def _inside(archive: Path, name: str) -> str:
    """Return the relative path of a member; some systems write backslashes between folders.

    There may be hundreds of thousands, for which pathlib takes most of the time.
    """
    path = name.replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    drive = parts and parts[0].endswith(":")
    if path.startswith("/") or drive or ".." in parts or not parts or "\0" in name:
        raise ConfigError(
            f"{archive} holds the path {_shown(name)}, which leads out of the archive: it is "
            "refused."
        )
    inside = "/".join(parts)
    if len(parts) > _MAX_DEPTH or len(os.fsencode(inside)) > _MAX_PATH:
        raise ConfigError(
            f"{archive} holds the path {_shown(name)}, which is longer or deeper than "
            f"{_MAX_PATH} bytes or {_MAX_DEPTH} folders: it is refused."
        )
    return inside


def _shown(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}...")


def _chunk(archive: Path, stream: IO[bytes]) -> bytes:
    try:
        return stream.read(_CHUNK_BYTES)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _members(archive: Path) -> Iterator[_Member]:
    """Yield the plain files, in order; folders follow from them, and anything else is refused."""
    is_zip = archive.name.lower().endswith(".zip")
    try:
        yield from _zip_members(archive) if is_zip else _tar_members(archive)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        if len(infos) > _MAX_FILES:
            raise _too_many(archive)
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.filename.endswith(("/", "\\")):  # the second as Windows may write it
                continue
            # 0: written by a system without kinds of files.
            if kind not in (0, stat.S_IFREG):
                raise _no_plain_file(archive, info.filename)
            with opened.open(info) as stream:
                yield info.filename, stream


def _tar_members(archive: Path) -> Iterator[_Member]:
    # "r|*" reads once from front to back, so nothing is decompressed twice or kept.
    with _CheckedTar.open(archive, "r|*", tarinfo=_CheckedInfo) as opened:
        count = 0
        while (info := opened.next()) is not None:
            opened.members.clear()  # which would grow by a kilobyte a member
            count += 1
            if count > _MAX_FILES:
                raise _too_many(archive)
            if info.isdir():
                continue
            stream = opened.extractfile(info) if info.isreg() else None
            if stream is None:
                raise _no_plain_file(archive, info.name)
            yield info.name, stream


def tar_index(
    archive: Path, most: int | None = None
) -> Iterator[tuple[str, int, int, Callable[[], bytes]]]:
    """Yield name, offset, bytes and a reader of the plain files in a .tar that is not compressed.

    Headers alone are read. A reader is valid until the next file.

    Args:
        archive: where pictures are to be read in place.
        most: how many members are looked at; None for all.

    Raises:
        ConfigError: the archive is damaged, or holds links or devices.
    """
    try:
        with archive.open("rb") as stream:
            opened = _CheckedTar.open(fileobj=stream, mode="r:", tarinfo=_CheckedInfo)
            count = 0
            while (info := opened.next()) is not None and count != most:
                opened.members.clear()
                count += 1
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise _no_plain_file(archive, info.name)

                def read(start: int = info.offset_data, size: int = info.size) -> bytes:
                    stream.seek(start)
                    return stream.read(size)

                yield _inside(archive, info.name), info.offset_data, info.size, read
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


class _Headers:
    """The decompressed bytes of an archive, of which `left` may be read before the next data."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.left = float(_MAX_HEADER_BYTES)

    def read(self, size: int) -> bytes:
        self.left -= size
        if self.left < 0:
            raise ReadError(_TOO_LARGE_HEADER)
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _CheckedTar(tarfile.TarFile):
    """A `TarFile` that refuses headers that would fill the memory."""

    members: list[tarfile.TarInfo]

    def __init__(
        self, name: Any = None, mode: Any = "r", fileobj: Any = None, **options: Any
    ) -> None:
        self.headers = _Headers(fileobj)
        super().__init__(name, mode, self.headers, **options)

    def next(self) -> tarfile.TarInfo | None:
        self.headers.left = _MAX_HEADER_BYTES
        found = super().next()
        self.headers.left = math.inf  # data come next
        return found


class _CheckedInfo(tarfile.TarInfo):
    """A `TarInfo` that takes only the mark of the end for the end of an archive.

    `tarfile` also stops, without a word, at a damaged header and where the file was cut, and reads
    as much for a name as the header says.
    """

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTRA_KINDS and info.size > _MAX_EXTRA_BYTES:
            raise ReadError(_TOO_LARGE_HEADER)
        return info

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except _TAR_END:
            raise
        except HeaderError as error:
            raise ReadError(f"damaged or cut short ({error})") from error


def _no_plain_file(archive: Path, name: str) -> ConfigError:
    return ConfigError(
        f"{archive} holds {name!r}, which is a link or a device: only files and folders are "
        "taken. Pack it with links followed (tar --dereference --hard-dereference)."
    )


def _too_many(archive: Path) -> ConfigError:
    return ConfigError(f"{archive} has more than {_MAX_FILES} files: extract it yourself.")


def _damaged(archive: Path, error: BaseException) -> ConfigError:
    if (short := shortage(error, f"{archive} was read")) is not None:
        return short
    if isinstance(error, OSError) and error.errno is not None:
        return ConfigError(f"{archive} cannot be read: {error.strerror}.")
    why = "headers within headers" if isinstance(error, RecursionError) else error
    return ConfigError(f"{archive} cannot be extracted, it is damaged or encrypted: {why}.")
