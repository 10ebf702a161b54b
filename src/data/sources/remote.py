"""Pictures at an address (s3://, gs://, hf://, https://, ...), fetched once into the cache.

Files are read by fsspec's file systems, which find credentials in the environment. What was fetched
stays: a later start reads nothing from the address, unless files are missing here.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ...config.checks import ConfigError
from ...config.credentials import without_password
from ...machine.disk import NO_ROOM, OF_THE_PROCESS, free_bytes, size_text
from ...machine.failures import DiskRefuses
from ...machine.parallel import in_order
from ...machine.status import with_progress
from ...storage.cache import cache_errors, key_of, locked
from ...storage.digests import checked_line, line_content
from ...storage.files import write_atomically
from ..decoding.picture_files import PICTURE_ENDINGS
from ..decoding.videos import VIDEO_ENDINGS
from .archive import ARCHIVE_ENDINGS
from .file_notes import NOTES, FileNotes, shortened_names
from .shards import SHARD_ENDING, expanded
from .source import is_left_behind
from .table import TABLE_ENDINGS

__all__ = ["fetched", "is_address"]

_log = logging.getLogger(__name__)

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(?=://)", re.IGNORECASE)
_WEB = ("http", "https")
_FILE_ENDINGS = (*ARCHIVE_ENDINGS, *TABLE_ENDINGS, ".npz")
_CONTENT, _PARTIAL, _LISTING = "content", "partial", "listing.json"
# Most of the time of a small file is spent waiting for its first byte.
_CONNECTIONS = 16
# A larger file is read by parts of this size, several at a time, and taken up again after a kill.
_PART_BYTES = 16 << 20
_MAX_DEPTH = 64
_CONNECT_SECONDS, _SILENT_SECONDS = 30, 120
# What file systems call a value that another content at the same place does not have.
_VERSIONS = (
    *("ETag", "etag", "md5Hash", "content_md5", "blob_id", "generation"),
    *("LastModified", "last_modified", "mtime", "updated", "modified", "created"),
)
# The size of a file that a table names and that is not there.
_ABSENT = -1
_FORBIDDEN = 403  # of HTTP
# Name -> size in bytes, None where it is not known, and version, "" where that is not known.
_Files = dict[str, tuple[int | None, str]]


def is_address(root: str) -> bool:
    """Return whether a root is an address elsewhere, and no path of this machine or file://."""
    return _SCHEME.match(root) is not None and not root.startswith("file://")


def fetched(
    address: str,
    cache_dir: Path,
    *,
    named: Callable[[Path], Iterable[str]],
    beside: Sequence[str] = (),
    videos: bool = False,
    look_again: bool = False,
) -> Path:
    """Return the file or folder of this machine with what lies at an address.

    A table, an archive and an .npz file are known by their endings, and braces stand for shards;
    anything else is a folder, of which the picture files are fetched, or its shards. With a table
    come the files that it names by relative paths.

    What was fetched earlier is compared with what was noted of each file then: its size, times and
    inode, and with `look_again` its content. What differs is fetched anew.

    Args:
        address: as fsspec has it.
        cache_dir: the project's cache folder.
        named: from a table's file to the paths in it.
        beside: names of files that are fetched as pictures are, and where they are there beside a
            table or in a folder itself.
        videos: whether those of a folder are fetched as its pictures are.
        look_again: list the address anew, read what is here, and fetch what has changed.

    Raises:
        ConfigError: the address cannot be read, holds nothing, needs a package that is not
            installed, or has more than the disk has room for.
    """
    scheme, _, path = address.partition("://")
    if scheme.lower() in _WEB:
        path = unquote(urlsplit(address).path)
    name = PurePosixPath(path).name
    names = expanded(name) if name.lower().endswith(_FILE_ENDINGS) else []
    # Not the same files, and so not the same listing.
    place = cache_dir / "remote" / key_of([address, "videos"] if videos else address)
    is_table = name.lower().endswith(TABLE_ENDINGS)
    files, whole = _known(place)
    # Of a listing of an earlier version it is not known whether these are there.
    whole = whole and files is not None and files.keys() >= {*beside}
    if look_again or files is None or not whole or _lacks_some(place, files):
        what = f"the files of {address}"
        with cache_errors(what, place.parent), locked(place, what):
            place.mkdir(exist_ok=True)
            remote = _Remote(address, names, beside, videos=videos)
            in_table = partial(named, place / _CONTENT / name) if is_table else None
            remote.update(place, in_table, look_again=look_again)
    else:
        _log.info("%s was fetched earlier; data.check_content=true looks for changes", address)
    return place / _CONTENT / name if names else place / _CONTENT


class _Remote:
    """The files at an address: those that it names, `own`, and those beside, or those below it.

    Those that are `beside` need not be there.
    """

    def __init__(
        self, address: str, own: Sequence[str], beside: Sequence[str], *, videos: bool
    ) -> None:
        self._address = address
        self._own, self._beside = own, beside
        self._endings = PICTURE_ENDINGS | VIDEO_ENDINGS if videos else PICTURE_ENDINGS
        self._came: set[str] = set()  # names of those that were fetched
        self._web = address.partition("://")[0].lower() in _WEB
        with self._errors():
            self._system, root = _opened(address, web=self._web)
        self._root = root.rstrip("/")
        self._folder = self._root
        if own:
            self._folder = self._root.partition("?")[0].rpartition("/")[0]

    def update(
        self, place: Path, named: Callable[[], Iterable[str]] | None, *, look_again: bool
    ) -> None:
        """Fetch what is not in a place, or not as it was when it came, and note what has come.

        Args:
            place: in the cache.
            named: the paths in a table at the address, once that has come; None for no table.
            look_again: as of `fetched`.
        """
        before, _ = _known(place)
        notes = FileNotes.read(place / NOTES) or FileNotes()
        _remove_changed(self._address, place, notes, content=look_again)
        if before is None or look_again:
            files = self.listed()
            _remove_outdated(place, before or {}, files)
        else:
            files = self.completed(before)
        files = dict.fromkeys(self._beside, (None, "")) | files
        self.fetch(files, place, whole=named is None)
        if named is not None:
            paths = filter(None, map(_plain, named()))
            files = dict.fromkeys(paths, (None, "")) | files
            self.fetch(files, place)
        for file, (size, _) in files.items():
            if size != _ABSENT and (file in self._came or file not in notes):
                notes.add(file, place / _CONTENT / file)
        notes.write(place / NOTES)
        shutil.rmtree(place / _PARTIAL, ignore_errors=True)

    def listed(self) -> _Files:
        """Return the files that the address names, or else those below it; raises as `below`."""
        if not self._own:
            return self.below()
        with self._errors():
            return {name: self._state(self._path(name)) for name in self._own}

    def completed(self, before: _Files) -> _Files:
        """Return an earlier listing, with the files `beside` where it was made without them."""
        if self._own or before.keys() >= {*self._beside}:
            return before
        found = self.below()  # those in folders below were not listed either
        return before | {n: found[n] for n in found if PurePosixPath(n).name in self._beside}

    def _state(self, path: str) -> tuple[int | None, str]:
        return _size_and_version(self._system.info(path))

    def below(self) -> _Files:
        """Return the pictures, perhaps videos, below the address; where are none, the shards.

        Raises:
            ConfigError: a folder cannot be listed, or there are neither.
        """
        files: _Files = {}
        shards: _Files = {}
        beside: _Files = {}
        others = 0
        for name, info in self._walk():
            inside = name.rpartition("/")[2]
            if os.path.splitext(inside)[1].lower() in self._endings:
                files[name] = _size_and_version(info)
            elif inside.endswith(SHARD_ENDING):
                shards[name] = _size_and_version(info)
            elif inside in self._beside:
                beside[name] = _size_and_version(info)
            else:
                others += 1
        if not files and shards:
            return shards
        others += len(shards)
        if not files:
            raise ConfigError(
                f"data.root is {self._address!r}: there is no picture below it"
                f"{f', and {others} other files' if others else ''}. Name a folder of class "
                f"folders, or a file that ends in {', '.join(_FILE_ENDINGS)}."
            )
        if others:
            _log.info("%s: left %d files that are no pictures by name", self._address, others)
        return files | beside

    def _walk(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the path below the address of each file, and what is known of it."""
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            for inside, info in self._inside(folder):
                name = f"{folder}/{inside}" if folder else inside
                if info["type"] != "directory":
                    yield name, info
                elif name.count("/") < _MAX_DEPTH:
                    waiting.append(name)

    def _inside(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name of each file and folder directly inside, and what is known of it."""
        with self._errors():
            listed = self._system.ls(self._path(folder) if folder else self._root, detail=True)
        before = self._path(folder) if folder else self._root
        for info in listed:
            # The links of a page may lead anywhere, and folders may list themselves.
            path = str(info["name"]).rstrip("/")
            inside = path.removeprefix(f"{before}/")
            name = _plain(unquote(inside) if self._web else inside)
            if path != inside and name and "/" not in name and not is_left_behind(name):
                yield name, info

    def _path(self, name: str) -> str:
        if self._own == [PurePosixPath(self._root.partition("?")[0]).name] == [name]:
            return self._root  # with its parameters
        return f"{self._folder}/{quote(name) if self._web else name}"

    def fetch(self, files: _Files, place: Path, *, whole: bool = True) -> None:
        """Fetch the files that are not in the place; writes there which are wanted.

        Args:
            whole: whether these are all, and not a table whose pictures are still to be named.

        Raises:
            ConfigError: one cannot be read.
            DiskRefuses: the disk has no room for them.
        """
        names = _missing(place, files)
        size = sum(files[name][0] or 0 for name in names)
        room = free_bytes(place)
        if size > room:
            raise DiskRefuses(
                f"{self._address} holds {size_text(size)} more than is here, and {place} has "
                f"{size_text(room)} free: make room, or name another folder with data.cache_dir"
            )
        _store(place, files, whole)
        if names:
            _log.info("fetching %d files (%.1f MB) of %s", len(names), size / 1e6, self._address)
        there = in_order(lambda name: self._fetch(name, files[name], place), names, _CONNECTIONS)
        pairs = zip(names, there, strict=True)
        for name, found in with_progress(pairs, len(names), "files fetched"):
            if not found:
                files[name] = _ABSENT, ""
            self._came.add(name)
        _store(place, files, whole)

    def _fetch(self, name: str, expected: tuple[int | None, str], place: Path) -> bool:
        """Fetch a file; False where it is not there, though a table says so."""
        size, version = expected
        path, target = self._path(name), place / _CONTENT / name
        partial = place / _PARTIAL / key_of([name, size, version])
        with cache_errors(name, place):
            for folder in (target.parent, partial.parent):
                folder.mkdir(parents=True, exist_ok=True)
        with self._errors():
            try:
                if size is not None and size > _PART_BYTES and self._has_parts(path):
                    self._fetch_parts(path, partial, size)
                else:
                    self._system.get_file(path, str(partial))
            except FileNotFoundError:
                if name in self._beside or (self._own and name not in self._own):
                    return False
                raise
            except Exception as error:  # a bucket forbids what is not there, also over the web
                status = getattr(error, "status", None)  # of one of aiohttp
                forbidden = isinstance(error, PermissionError) or status == _FORBIDDEN
                if name in self._beside and forbidden:
                    return False
                raise
        if size is not None and partial.stat().st_size != size:
            raise ConfigError(
                f"{self._address}: {name} came with {partial.stat().st_size} bytes instead of "
                f"{size}: run the same command again, or set data.check_content=true if it has "
                "been changed there."
            )
        os.replace(partial, target)
        return True

    def _has_parts(self, path: str) -> bool:
        """Return whether parts of a file can be read; a web server may send whole files alone."""
        return not self._web or bool(self._system.info(path).get("partial"))

    def _fetch_parts(self, path: str, partial: Path, size: int) -> None:
        def part(start: int) -> bytes:
            end = min(start + _PART_BYTES, size)
            content: bytes = self._system.cat_file(path, start=start, end=end)
            if len(content) != end - start:
                raise OSError(f"{len(content)} bytes came instead of {end - start}")
            return content

        with partial.open("ab") as stream:
            starts = range(stream.tell(), size, _PART_BYTES)
            for content in in_order(part, starts, min(_CONNECTIONS, 4)):
                stream.write(content)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the error of a file system, which may be of any kind, into a message."""
        try:
            yield
        except (ConfigError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_ROOM | OF_THE_PROCESS:
                raise
            raise ConfigError(f"data.root is {self._address!r}: {_reason(error)}") from error


def _opened(address: str, *, web: bool) -> tuple[Any, str]:
    """Return the file system of an address, and its path there."""
    from fsspec.core import url_to_fs

    options: dict[str, Any] = {}
    if web:
        import aiohttp

        # aiohttp's own limit is five minutes for a whole file; proxies are set in the environment.
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS
        )
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    system, path = url_to_fs(address, **options)
    return system, str(path)


def _reason(error: Exception) -> str:
    """Return what an error of a file system means, as the rest of a sentence."""
    text = without_password(" ".join(str(error).split())) or type(error).__name__
    if isinstance(error, ImportError):
        package = re.match(r"Install ([\w-]+)", text)
        advice = f": pip install {package[1]}" if package else ""
        return f"a package that reads such addresses is missing ({text}){advice}."
    if isinstance(error, ValueError) and text.startswith("Protocol not known"):
        return "unknown kind of address: use s3://, gs://, hf://, https:// or a path."
    if isinstance(error, FileNotFoundError):
        return "there is no such file or folder."
    if isinstance(error, PermissionError):
        return (
            f"access is denied ({text}). Credentials are read from the environment and from the "
            "files that the storage's own tools use."
        )
    return f"it cannot be read ({type(error).__name__}: {text}). What was fetched is kept."


def _plain(name: str) -> str | None:
    """Return a relative path in normal form; None of one that leads elsewhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or is_address(name):
        return None
    if not path.parts or path.parts[0].endswith(":") or len(path.parts) > _MAX_DEPTH:
        return None
    return str(path)


def _size_and_version(info: dict[str, Any]) -> tuple[int | None, str]:
    size = info.get("size")
    version = next((str(info[key]) for key in _VERSIONS if info.get(key) is not None), "")
    return (None if size is None else int(size)), version


def _known(place: Path) -> tuple[_Files | None, bool]:
    """Return the files that were listed earlier, None where none were, and whether all were."""
    try:
        content = line_content((place / _LISTING).read_bytes(), strict=True)
        files = {name: (size, version) for name, (size, version) in content["files"].items()}
        return files, bool(content["whole"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, False


def _store(place: Path, files: _Files, whole: bool) -> None:
    write_atomically(place / _LISTING, checked_line({"files": files, "whole": whole}))


def _missing(place: Path, files: _Files) -> list[str]:
    """Return the files that are not here, or not with their size."""
    missing = []
    for name, (size, _) in files.items():
        try:
            here: int | None = os.stat(place / _CONTENT / name).st_size
        except OSError:
            here = None
        if size != _ABSENT and (here is None or size not in (None, here)):
            missing.append(name)
    return missing


def _lacks_some(place: Path, files: _Files) -> bool:
    """Return whether a file is not here, or not as it was when it came."""
    notes = FileNotes.read(place / NOTES)
    return notes is None or bool(
        _missing(place, files) or notes.changed(place / _CONTENT, content=False)
    )


def _remove_changed(address: str, place: Path, notes: FileNotes, *, content: bool) -> None:
    """Remove the files that are here and not as they were when they came."""
    here = place / _CONTENT
    changed = [n for n in notes.changed(here, content=content) if (here / n).is_file()]
    for name in changed:
        (here / name).unlink()
    if changed:
        _log.warning(
            "%s: what was fetched from it is not what it was (%s): it is fetched anew",
            address,
            shortened_names(changed),
        )


def _remove_outdated(place: Path, before: _Files, now: _Files) -> None:
    """Remove the files that are not at the address any more, or might be others there."""
    for name, known in before.items():
        if known != now.get(name) or known == (None, ""):
            (place / _CONTENT / name).unlink(missing_ok=True)
