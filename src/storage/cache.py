"""The cache: a folder of everything that can be made anew, made once and verified when read.

An entry is a folder `KIND/KEY` whose key is a hash of all that its content depends on. It is built
under another name and renamed when complete, under a lock that all processes share; of a build that
did not end, the next one has the `GrowingFile`. Its `entry.json` holds plain values and a CRC-32
for each block of 4 MB of each file: at several GB/s, the check takes less than the first pass over
the data. A damaged entry is built anew. Records are single JSON files of the same kind.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from ..config.checks import ConfigError, not_written
from ..machine.cache_place import cache_place
from ..machine.disk import OF_THE_PROCESS, refusal
from ..machine.parallel import available_cores, in_order
from .digests import checked_line, line_content
from .files import write_atomically
from .growing import has_blocks
from .locks import ProcessLock, if_free

__all__ = [
    "CachedMeasurement",
    "Entry",
    "cache_errors",
    "cache_folder",
    "cached",
    "check_again",
    "entry_folders",
    "key_of",
    "load_measurement",
    "locked",
    "opened",
    "read_entry",
    "remove_unfinished",
    "shortage",
    "store_measurement",
]

T = TypeVar("T")
_log = logging.getLogger(__name__)

# The end of the name of a folder that is being filled, or was when its process died.
_UNFINISHED = ".unfinished"
_ENTRY = "entry.json"
# Kinds of entries that earlier formats had as well; those of today are known by their files.
_KINDS = ("pictures", "features", "activations", "examined", "archives")
_MEASUREMENTS = "plans"
_BLOCK_BYTES = 4 << 20
# What a limit of time has cut short is begun anew where there is so many times as much.
_CLEARLY_LONGER = 1.25
# (device, inode, bytes, time of change) of the files that this process has checked.
_checked: set[tuple[int, int, int, int]] = set()


def cache_folder(cache_dir: str | None) -> Path:
    """Return the cache's folder: the given one, else $BAKEOFF_CACHE, else bakeoff in the user's.

    Raises:
        ConfigError: none is given, and the user has no home folder.
    """
    try:
        return cache_place(cache_dir)
    except RuntimeError:  # of a user without a name, whom containers and jobs may have
        raise ConfigError(
            "there is no home folder for the cache: state one in the environment variable HOME, "
            "or where the cache shall be in BAKEOFF_CACHE."
        ) from None


def key_of(plan: object, *contents: bytes | memoryview) -> str:
    """Return the name of an entry, 32 hex digits: a hash of plain values for JSON, and of bytes."""
    digest = hashlib.blake2b(json.dumps(plan, sort_keys=True).encode(), digest_size=16)
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


@dataclass(frozen=True)
class Entry:
    """An entry that is there and whole: its files, and the plain values stored with them.

    `built` says whether it was built by the call that returned it.
    """

    folder: Path
    values: dict[str, Any]
    built: bool = False


def cached(
    folder: Path,
    build: Callable[[Path], dict[str, Any]],
    *,
    what: str,
    usable: Callable[[Entry], bool] = lambda _: True,
) -> Entry:
    """Return the entry of a folder, built now by one of all processes unless it is there.

    Args:
        folder: of the entry; its parents are created.
        build: fills the folder that it is given, and returns the values of the entry. The folder is
            empty, or has the `GrowingFile` of a build that did not end. The files directly in it
            are checked when it is read; of those below `usable` decides.
        what: what is in it, in the plural, for messages.
        usable: whether a whole entry has what is needed.

    Raises:
        DiskRefuses: the disk is full.
        ConfigError: the folder cannot be written, memory or files run short, or another program
            changes it meanwhile.
    """

    with cache_errors(what, folder.parent):
        if (entry := read_entry(folder)) is not None and usable(entry):
            return entry
    with cache_errors(what, folder.parent), locked(folder, what):
        if (entry := read_entry(folder)) is not None and usable(entry):
            return entry
        if folder.exists() and entry is None:
            _log.warning("%s in %s are damaged: they are made anew", what, folder)
        unfinished = _unfinished(folder)
        try:
            _complete(unfinished, build(unfinished))
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        except BaseException as error:
            # What is wrong with the input keeps the same entry from being asked for again.
            if isinstance(error, ConfigError) or not has_blocks(unfinished):
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
        # Still under the lock: the next holder may need more, and then puts another in its place.
        if (entry := read_entry(folder)) is not None and usable(entry):
            return replace(entry, built=True)
    raise ConfigError(f"{folder} is being changed by another program: run again.")


def opened(
    folder: Path,
    build: Callable[[Path], dict[str, Any]],
    read: Callable[[Entry], T],
    *,
    what: str,
    usable: Callable[[Entry], bool] = lambda _: True,
) -> T:
    """Return what is read of the entry of a folder, such as its mapped arrays; see `cached`.

    An entry that is removed in between, with the whole cache perhaps, is built once more.

    Args:
        folder, build, what, usable: as of `cached`; `build` may be called twice.
        read: opens files of the entry, and raises FileNotFoundError where one is gone.

    Raises:
        DiskRefuses, ConfigError: as `cached`; the latter as well where the entry is removed again.
    """
    with contextlib.suppress(FileNotFoundError):
        return read(cached(folder, build, what=what, usable=usable))
    _log.warning("%s in %s were removed meanwhile: they are made anew", what, folder)
    try:
        return read(cached(folder, build, what=what, usable=usable))
    except FileNotFoundError as error:
        raise ConfigError(
            f"another program removes {what} in {folder} as soon as they are made: let it end, or "
            "set data.cache_dir=FOLDER."
        ) from error


def read_entry(folder: Path) -> Entry | None:
    """Return the entry of a folder; None where it is missing or is not what was written.

    Files are read once by each process, until their inode, size or time of change differ.

    Raises:
        OSError: it cannot be read now, as where a disk fails or too many files are open.
    """
    try:
        content = line_content((folder / _ENTRY).read_bytes(), strict=True)
        for name, expected in content["files"].items():
            file = folder / name
            state = _state(file)
            if state not in _checked and _checksums(file) != expected:
                return None
            _checked.add(state)
        return Entry(folder, dict(content["values"]))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def entry_folders(cache_dir: Path) -> list[Path]:
    """Return the folders of the entries in a cache, in order, whatever kinds it has.

    Those of earlier formats are among them.
    """
    kinds = {entry.parents[1] for entry in cache_dir.glob(f"*/*/{_ENTRY}")}
    kinds |= {cache_dir / name for name in _KINDS}
    found = (folder for kind in kinds for folder in kind.glob("*/"))
    return sorted(folder for folder in found if folder.suffix != _UNFINISHED)


def remove_unfinished(cache_dir: Path) -> list[Path]:
    """Remove the folders that processes left which died while they filled them; return which.

    Raises:
        OSError: one cannot be removed.
    """
    removed = []
    for folder in sorted(cache_dir.glob(f"*/*{_UNFINISHED}/")):
        key = folder.name.partition(".")[0]
        with if_free(_lock_of(folder.with_name(key))) as free:
            if free:
                shutil.rmtree(folder)
                removed.append(folder)
    return removed


def check_again() -> None:
    """Have every file read again that this process has checked already."""
    _checked.clear()


@dataclass(frozen=True)
class CachedMeasurement:
    """A measurement of an earlier start.

    Attributes:
        found: plain values for JSON.
        disturbed: whether other programs used the cores meanwhile.
        limit: seconds after which it was cut short; None for a whole one.
    """

    found: dict[str, Any]
    disturbed: bool
    limit: float | None = None

    def is_enough_for(self, seconds: float | None) -> bool:
        """Return whether a measurement of so many seconds (None: a whole one) finds hardly more."""
        if self.limit is None:
            return True
        return seconds is not None and seconds <= _CLEARLY_LONGER * self.limit


def load_measurement(
    kind: str, known: dict[str, Any], cache_dir: str | None = None
) -> CachedMeasurement | None:
    """Return a measurement of this kind; None where there is no readable one.

    Args:
        kind: part of the file's name.
        known: all that the measurement depends on, as plain values for JSON.
        cache_dir: see `cache_folder`.
    """
    try:
        plain = line_content(_measurement_path(kind, known, cache_dir).read_bytes())
        return CachedMeasurement(dict(plain["found"]), bool(plain["disturbed"]), plain.get("limit"))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store_measurement(
    kind: str, known: dict[str, Any], measurement: CachedMeasurement, cache_dir: str | None = None
) -> None:
    """Write a measurement; where the disk refuses, the next start measures again."""
    plain = {"for": known, **vars(measurement)}
    with contextlib.suppress(OSError):
        write_atomically(_measurement_path(kind, known, cache_dir), checked_line(plain))


def shortage(error: BaseException, doing: str) -> ConfigError | None:
    """Return a message for too little memory or too many open files; None for any other error.

    Args:
        error: of any kind.
        doing: what was being done, to be read after "while".
    """
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return ConfigError(
            f"there was not enough memory while {doing}: end other programs, or set "
            "data.num_workers=1 to have fewer pictures in memory at a time."
        )
    if number in OF_THE_PROCESS:
        return ConfigError(
            f"too many files were open while {doing}: allow more (ulimit -n 4096), or set "
            "data.num_workers=1."
        )
    return None


@contextmanager
def cache_errors(what: str, folder: Path) -> Iterator[None]:
    """Turn errors of a disk, of memory and of open files into a `ConfigError` with a remedy.

    A full disk, which is no fault of the input, becomes `DiskRefuses`. The message says `what` is
    made, in the plural, and in which `folder` where the error names no file.
    """
    try:
        yield
    except (OSError, MemoryError) as error:
        if (short := shortage(error, f"{what} were made")) is not None:
            raise short from error
        if not isinstance(error, OSError):
            raise
        reason = refusal(error, folder) or f"{error.strerror or error} ({folder})"
        raise not_written(
            error,
            f"{what} cannot be kept: {reason}. The cache may also lie elsewhere: set "
            "data.cache_dir=FOLDER, or set BAKEOFF_CACHE.",
        ) from error


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock on `path` that all processes share; logs when it has to wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = ProcessLock(_lock_of(path))
    try:
        lock.acquire(timeout=1)
    except Timeout:
        _log.info("waiting for another process, which is at work on %s", what)
        lock = ProcessLock(_lock_of(path))  # filelock may have made another class of the first one
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _unfinished(folder: Path) -> Path:
    """Return the folder to fill for an entry: what a build can go on with, or an empty one.

    The lock is held, so what is there was left by builds that did not end.
    """
    # A name of its own: whoever removes the cache removes the lock as well, and what another
    # process begins then must not be taken for what this one has made.
    unfinished = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}{_UNFINISHED}")
    for left in folder.parent.glob(f"{folder.name}*{_UNFINISHED}"):
        if has_blocks(left) and not unfinished.exists():
            left.rename(unfinished)
        else:
            shutil.rmtree(left, ignore_errors=True)
    unfinished.mkdir(exist_ok=True)
    return unfinished


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _complete(folder: Path, values: dict[str, Any]) -> None:
    """Write an entry's values and the checksums of the files directly in it, then on the disk."""
    checksums = {}
    for file in sorted(folder.iterdir()):
        if file.is_file():
            with file.open("r+b") as stream:
                os.fsync(stream.fileno())
            checksums[file.name] = _checksums(file)
            _checked.add(_state(file))
    write_atomically(folder / _ENTRY, checked_line({"files": checksums, "values": values}))


def _checksums(file: Path) -> list[int]:
    """Return the CRC-32 of each block of a file."""

    def checksum(start: int) -> int:
        with file.open("rb") as stream:
            stream.seek(start)
            return zlib.crc32(stream.read(_BLOCK_BYTES))

    starts = range(0, file.stat().st_size, _BLOCK_BYTES)
    if len(starts) < 2:  # a thread costs more
        return [checksum(start) for start in starts]
    return [*in_order(checksum, starts, available_cores())]


def _state(file: Path) -> tuple[int, int, int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _measurement_path(kind: str, known: dict[str, Any], cache_dir: str | None) -> Path:
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return cache_folder(cache_dir).absolute() / _MEASUREMENTS / f"{kind}-{digest[:24]}.json"
