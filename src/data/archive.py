"""A person's archive of pictures, extracted once into the cache, without trusting it.

Nothing but plain files is ever created, each below the new folder, so neither `../` nor links can
lead out of it. That holds for .zip and .tar alike, where `tarfile`'s filters know but the one.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tarfile import HeaderError, ReadError
from typing import IO, Self

from src.config.checks import ConfigError
from src.data.once import made_once

__all__ = ["ARCHIVE_ENDINGS", "extract_archive"]

ARCHIVE_ENDINGS = (
    ".zip",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.xz",
    ".txz",
    ".tar.bz2",
    ".tbz2",
)
# Pictures hardly shrink in an archive: what grows past both of these is made to fill a disk.
_MAX_RATIO = 200
_FREE_OF_RATIO_BYTES = 10**9
_MAX_FILES = 2_000_000
_CHUNK_BYTES = 1 << 20
_TAR_END = tarfile.EOFHeaderError  # type: ignore[attr-defined]  # which the stubs leave out
_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,  # of zipfile: encrypted, or a compression that it does not know
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class _Member:
    """A plain file in an archive."""

    name: str
    stream: IO[bytes]


def extract_archive(archive: Path, folder: Path) -> Path:
    """The folder with the files of `archive`, extracted now or found again below `folder`.

    It is found again by the archive's path, size and time of change.

    Args:
        archive: a .zip, or a .tar, plain or compressed with gzip, xz or bzip2.
        folder: where extracted archives are kept.

    Raises:
        ConfigError: the archive is damaged or encrypted, holds links, devices or paths that lead
            out of it, or unpacks to suspiciously much or to more than the disk has room for.
    """
    state = archive.stat()
    place = f"{archive.absolute()}\0{state.st_size}\0{state.st_mtime_ns}"
    target = folder / hashlib.blake2b(os.fsencode(place), digest_size=16).hexdigest()
    made_once(
        target,
        lambda unfinished: _extract(archive, unfinished),
        usable=_complete,
        what=f"the content of {archive}",
    )
    return target / "content"


def _complete(target: Path) -> bool:
    """Whether all files are still there; systems clean up caches file by file."""
    try:
        count: int = json.loads((target / "extracted.json").read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return count == sum(len(files) for _, _, files in os.walk(target / "content"))


def _extract(archive: Path, target: Path) -> None:
    content = target / "content"
    content.mkdir()
    size = archive.stat().st_size
    room = shutil.disk_usage(target).free
    by_ratio = max(_FREE_OF_RATIO_BYTES, _MAX_RATIO * size)
    written: set[Path] = set()
    total = 0
    for member in _members(archive):
        path = content.joinpath(_inside(archive, member.name))
        written.add(path)
        if len(written) > _MAX_FILES:
            raise ConfigError(f"{archive} has more than {_MAX_FILES} files: extract it yourself.")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for chunk in _chunks(archive, member):
                total += len(chunk)
                if total > by_ratio:
                    raise ConfigError(
                        f"{archive} ({size} bytes) unpacks to more than {by_ratio} bytes, as only "
                        "archives do that are made to fill a disk. If you trust it, extract it "
                        "yourself and name the folder with data.root."
                    )
                if total > room:
                    raise ConfigError(
                        f"{archive} unpacks to more than the {room / 1e9:.1f} GB that are free in "
                        f"{target.parent}: make room, or name another folder with data.cache_dir."
                    )
                file.write(chunk)
    (target / "extracted.json").write_text(json.dumps({"files": len(written)}))


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The relative path of a member; some systems write backslashes between folders."""
    path = PurePosixPath(name.replace("\\", "/"))
    drive = path.parts and path.parts[0].endswith(":")
    if path.is_absolute() or drive or ".." in path.parts or not path.parts or "\0" in name:
        raise ConfigError(
            f"{archive} holds the path {name!r}, which leads out of the archive: it is refused."
        )
    return path


def _chunks(archive: Path, member: _Member) -> Iterator[bytes]:
    try:
        while chunk := member.stream.read(_CHUNK_BYTES):
            yield chunk
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _members(archive: Path) -> Iterator[_Member]:
    """The plain files, in order; folders follow from them, and anything else is refused."""
    try:
        if archive.name.lower().endswith(".zip"):
            yield from _zip_members(archive)
        else:
            yield from _tar_members(archive)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            # 0: written by a system that knows no kinds of files.
            if kind not in (0, stat.S_IFREG):
                raise _no_plain_file(archive, info.filename)
            with opened.open(info) as stream:
                yield _Member(info.filename, stream)


def _tar_members(archive: Path) -> Iterator[_Member]:
    # "r|*" reads once from front to back, so nothing is decompressed twice or kept.
    with tarfile.open(archive, "r|*", tarinfo=_CheckedInfo) as opened:
        for info in opened:
            if info.isdir():
                continue
            stream = opened.extractfile(info) if info.isreg() else None
            if stream is None:
                raise _no_plain_file(archive, info.name)
            yield _Member(info.name, stream)


class _CheckedInfo(tarfile.TarInfo):
    """Reads headers as its base does, but takes only the mark of the end for the end.

    `tarfile` also stops, without a word, at a damaged header and where the file was cut.
    """

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


def _damaged(archive: Path, error: BaseException) -> ConfigError:
    return ConfigError(f"{archive} cannot be extracted, it is damaged or encrypted: {error}.")
