"""A study's journal: the file of Optuna's journal storage, kept whole whatever happens.

The format is that of `optuna.storages.journal.JournalFileBackend`, one JSON operation a line, so
that Optuna's own tools open it; each line ends with its checksum, which they ignore. That class is
poisoned for good by a torn last line (a power cut, a full disk); here such a line is cut off when
the file is opened, and a failed write is taken back.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from src.machine.disk import named_file
from src.storage.digests import DamagedLine, checked_line, line_content

__all__ = ["Journal", "operation_of"]

_log = logging.getLogger(__name__)

# Optuna's operation that ends a trial: from there on its loss would matter.
_ENDS_TRIAL = 6


class Journal(BaseJournalBackend):
    """One process writes, as the study's lock ensures; others may read.

    Args:
        path: of the file; made where it is missing.

    Raises:
        ValueError: a line before the last is damaged.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._offsets = [0]
        self._size = self._recover()

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The operations from this number on."""
        if log_number_from >= len(self._offsets) - 1:
            return
        with self._path.open("rb") as file:
            file.seek(self._offsets[log_number_from])
            for number, line in enumerate(file.read(self._size - file.tell()).splitlines()):
                try:
                    yield line_content(line)
                except DamagedLine as error:
                    raise self._damaged(log_number_from + number + 1, error) from error

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations, all of them or none.

        Raises:
            OSError: there is no room; the file is as it was.
        """
        lines = [checked_line(log) for log in logs]
        content = b"".join(lines)
        try:
            written = 0
            with named_file(self._path):
                while written < len(content):
                    written += os.write(self._file, content[written:])
            # What a killed process wrote is safe; what a power cut would lose is one trial's steps.
            if any(log.get("op_code") == _ENDS_TRIAL for log in logs):
                os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        for line in lines:
            self._size += len(line)
            self._offsets.append(self._size)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _recover(self) -> int:
        """Learn where the lines begin, and cut a last one that is not whole."""
        size = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    operation_of(line)
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
        command = shlex.join(["python", "-m", "src.verify", f"study={self._path.parent}"])
        return ValueError(
            f"line {number} of {self._path} is damaged ({error}): {command} repair=true cuts it out"
        )


def operation_of(line: bytes) -> dict[str, Any]:
    """The operation of Optuna's that a whole line of a journal holds.

    Raises:
        DamagedLine: it is not what was written.
    """
    operation = line_content(line)
    if "op_code" not in operation:
        raise DamagedLine("it is no operation of a study")
    return operation
