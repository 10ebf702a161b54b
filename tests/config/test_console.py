from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from src.config.checks import ConfigError
from src.config.console import direct, on_plain_output, written_to
from src.machine.failures import DiskRefuses


def stream(encoding: str = "utf-8") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")


def written(out: io.TextIOWrapper) -> bytes:
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    return out.buffer.getvalue()


def entry(action: Callable[[], object]) -> int:
    @on_plain_output
    def run() -> int:
        action()
        return 0

    return run()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_no_encoding_ends_a_command(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = stream(encoding), stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    text = "猫 ★ … " + os.fsdecode(b"caf\xe9")

    def action() -> None:
        print(text)
        print(text, file=sys.stderr)

    assert entry(action) == 0
    for shown in (written(out), written(err)):
        assert shown.endswith(b"caf\\xe9\n")
        assert shown.decode(encoding).startswith("猫 ★" if encoding == "utf-8" else r"\u732b")
    assert sys.stdout is out and sys.stderr is err


def test_names_move_no_cursor_but_progress_does(monkeypatch: pytest.MonkeyPatch) -> None:
    out = stream()
    monkeypatch.setattr(sys, "stdout", out)

    def action() -> None:
        print("a\x1b[2Jb\x07\n\tc\r", end="")
        direct(sys.stdout).write("\x1b[K")

    assert entry(action) == 0
    assert written(out) == b"a\\x1b[2Jb\\x07\n\tc\r\x1b[K"


class Failing(io.StringIO):
    """Takes text, and fails once it has to be written."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def flush(self) -> None:
        raise OSError(self.code, os.strerror(self.code))


def test_a_full_disk_behind_standard_output_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    err = stream()
    monkeypatch.setattr(sys, "stdout", Failing(errno.ENOSPC))
    monkeypatch.setattr(sys, "stderr", err)
    assert entry(lambda: print("result")) == 2
    assert written(err).decode() == (
        f"error: standard output cannot be written: {os.strerror(errno.ENOSPC)}.\n"
    )


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskRefuses),
        (errno.EDQUOT, DiskRefuses),
        (errno.EFBIG, DiskRefuses),
        (errno.EACCES, ConfigError),
        (errno.ENAMETOOLONG, ConfigError),
    ],
)
def test_a_full_disk_is_no_wrong_setting(
    number: int, kind: type[Exception], tmp_path: Path
) -> None:
    place = tmp_path / "labels.csv"
    with pytest.raises(kind, match=f"^out: {place} cannot be written: "), written_to("out", place):
        raise OSError(number, os.strerror(number))
    with pytest.raises(kind, match=f"^to: {place} cannot be written: "), written_to("to", tmp_path):
        raise OSError(number, os.strerror(number), "/a source", None, str(place))


def test_a_reader_that_ended_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    err = stream()
    monkeypatch.setattr(sys, "stdout", Failing(errno.EPIPE))
    monkeypatch.setattr(sys, "stderr", err)
    assert entry(lambda: print("result")) == 1 and written(err) == b""


def test_remarks_that_nobody_can_see_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Failing(errno.EIO))
    assert entry(lambda: print("remark", file=sys.stderr, flush=True)) == 0


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_is_no_fault(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `>&-`."""
    monkeypatch.setattr(sys, name, None)
    assert entry(lambda: print("said", file=getattr(sys, name), flush=True)) == 0
    assert getattr(sys, name) is None
