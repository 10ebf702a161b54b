"""The journal file of a study, safe against crashes, and the lease of its driver.

The journal is that of `optuna.storages.journal.JournalFileBackend`, which Optuna's own tools open;
each line ends with its checksum, which they ignore. That class is poisoned for good by a torn last
line (a power cut, a full disk), which is cut off here; and a failed write is taken back.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import BaseJournalBackend

from ..machine.disk import named_file
from ..machine.package import command
from ..storage.digests import DamagedLine, checked_line, line_content

__all__ = [
    "NOTED",
    "Journal",
    "Lease",
    "StudyBusy",
    "describe",
    "operation_of",
    "translated_errors",
]

_log = logging.getLogger(__name__)

# Before the keys of what a study keeps, which are among Optuna's own attributes: those of a user
# stand in its table of studies, and each search space would make lines of thousands of characters.
NOTED = "bakeoff:"
# Optuna's operation that ends a trial, after which the file is flushed to the disk.
_ENDS_TRIAL = 6
_LEASE_KEY = "driver"
_LASTS_SECONDS = 60.0
_RENEW_SECONDS = 15.0
_WATCH_SECONDS = 1.5 * _RENEW_SECONDS
_LOOK_SECONDS = 1.0


class Journal(BaseJournalBackend):
    """The file behind Optuna's journal storage, made where it is missing.

    One process writes; others may read.

    Raises:
        ValueError: a line before the last is damaged.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # With the rights that other files get from the umask: a group may share the folder.
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        self._offsets = [0]
        self._unread: list[dict[str, Any]] = []  # the last ones, until they are asked for
        try:
            self._size = self._recover()
        except BaseException:  # nobody has it yet who could close it
            self.close()
            raise

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from this number on."""
        if log_number_from >= len(self._offsets) - 1:
            return
        if log_number_from == len(self._offsets) - 1 - len(self._unread):
            unread, self._unread = self._unread, []
            yield from unread
            return
        with self._path.open("rb") as file:
            file.seek(self._offsets[log_number_from])
            for number, line in enumerate(file.read(self._size - file.tell()).splitlines()):
                try:
                    yield line_content(line)
                except DamagedLine as error:
                    raise self._damaged(log_number_from + number + 1, error) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations, all or none: OSError without room, and the file is as it was."""
        lines = [checked_line(log) for log in logs]
        content = b"".join(lines)
        try:
            written = 0
            with named_file(self._path):
                while written < len(content):
                    written += os.write(self._file, content[written:])
            # Data of a killed process are safe; a power cut loses some steps of one trial.
            if any(log.get("op_code") == _ENDS_TRIAL for log in logs):
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        for line in lines:
            self._size += len(line)
            self._offsets.append(self._size)
            self._unread.append(line_content(line))  # as others will read it

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _recover(self) -> int:
        """Find where the lines begin, cut off a last one that is not whole, and return the size."""
        size = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    self._unread.append(operation_of(line))
                except DamagedLine as error:
                    if file.read(1):
                        raise self._damaged(number, error) from error
                    _log.warning("the last line of %s is damaged (%s): cut off", self._path, error)
                    break
                size += len(line)
                self._offsets.append(size)
        os.ftruncate(self._file, size)
        return size

    def _damaged(self, number: int, error: DamagedLine) -> ValueError:
        repair = command("verify", f"study={self._path.parent}")
        return ValueError(
            f"line {number} of {self._path} is damaged ({error}): {repair} repair=true cuts it out"
        )


def operation_of(line: bytes) -> dict[str, Any]:
    """Return Optuna's operation in a whole line of a journal; DamagedLine if it was changed."""
    operation = line_content(line)
    if "op_code" not in operation:
        raise DamagedLine("it is no operation of a study")
    return operation


class StudyBusy(ValueError):
    """Another process drives this study, or its storage does not answer."""


class Lease:
    """A timestamp of the driver in a study that machines reach which do not share its folder.

    A driver that died is known at once on its own machine, and elsewhere after a minute. Of two
    that begin in the same moment the one that renews first steps back. Clocks of two machines
    differ, and one that is set jumps: a driver that seems silent is watched before it counts as
    dead. `recall` and `remember` read and write a plain value of the study.
    """

    def __init__(
        self, name: str, recall: Callable[[str], Any], remember: Callable[[str, Any], None]
    ) -> None:
        self._name = name
        self._recall = recall
        self._remember = remember
        self._me = {"host": socket.gethostname(), "pid": os.getpid()}
        self._renewed: float | None = None

    def take(self) -> None:
        """Take the lease; StudyBusy if another process has it."""
        other = self._other()
        if other and not self._is_dead(other):
            age = max(0.0, time.time() - other["at"])
            raise StudyBusy(
                f"the study {self._name} is being driven by process {other['pid']} on "
                f"{other['host']} (heard of {age:.0f} s ago): end it, or wait a minute if it is "
                "dead"
            )
        self._renew()

    def renew(self) -> None:
        """Renew the lease, if it is time to; StudyBusy if another process has it meanwhile."""
        if self._renewed is None or time.monotonic() - self._renewed < _RENEW_SECONDS:
            return
        if other := self._other():
            self._renewed = None
            raise StudyBusy(
                f"the study {self._name} has been taken over by process {other['pid']} on "
                f"{other['host']}"
            )
        self._renew()

    def give_back(self) -> None:
        """Give the lease back."""
        if self._renewed is not None:
            self._renewed = None
            with suppress(Exception):  # the storage may be away
                self._remember(_LEASE_KEY, None)

    def _renew(self) -> None:
        self._remember(_LEASE_KEY, self._me | {"at": time.time()})
        self._renewed = time.monotonic()

    def _other(self) -> dict[str, Any] | None:
        """Return what another process has kept, if it has."""
        kept: dict[str, Any] | None = self._recall(_LEASE_KEY)
        return None if not kept or self._me.items() <= kept.items() else kept

    def _is_dead(self, other: dict[str, Any]) -> bool:
        if other["host"] == self._me["host"] and not psutil.pid_exists(other["pid"]):
            return True
        if 0 <= time.time() - other["at"] < _LASTS_SECONDS:
            return False
        began = time.monotonic()  # of a clock that is never set
        while time.monotonic() - began < _WATCH_SECONDS:
            time.sleep(_LOOK_SECONDS)
            if (now := self._recall(_LEASE_KEY)) != other:
                return now is None
        return True


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise StudyBusy, in one sentence, where a storage does not answer, or not in time."""
    try:
        yield
    except StorageInternalError as error:
        cause = describe(error.__cause__ or error)
        raise StudyBusy(
            f"the study's storage does not answer ({cause}); once it does, the same command goes on"
        ) from error


def describe(error: BaseException) -> str:
    """Return the message of the database, without the statement and the links around it."""
    # A connection that breaks within a transaction is reported by what the session refuses next.
    link: BaseException | None = error
    while link is not None and getattr(link, "orig", None) is None:
        link = link.__cause__ or link.__context__
    text = str(getattr(link, "orig", error)).strip()
    text = next(iter(text.splitlines()), type(error).__name__)
    return text.partition(" (Background on this error")[0]
