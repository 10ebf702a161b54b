from __future__ import annotations

import io
import logging
import os
import struct
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from src.config.console import on_plain_output
from src.machine import status
from src.machine.status import doing, with_progress


class Terminal(io.StringIO):
    """Counts as a terminal, whose `lines` are what a person sees of what was written."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        seen = []
        for line in self.getvalue().split("\n"):
            cells = list[str]()
            for part in line.split("\r"):
                cells[: len(part)] = part
            seen.append("".join(cells).rstrip())
        return seen


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Called by each test, because pytest puts streams of its own in place before one begins."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_what_is_done_is_shown_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with doing("loading all"):
        assert terminal.lines == ["loading all ..."]
    assert terminal.lines == [""]
    with pytest.raises(OSError, match="it failed"), doing("loading"):
        raise OSError("it failed")
    assert terminal.lines == [""]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_a_line_stays_within_the_terminal_so_that_it_can_be_taken_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(ours, "rb", buffering=0) as seen, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with doing("sending 3 of 11 entries to a server (Ctrl-C ends that)"):
            assert seen.read(1000) == b"sending 3 of 11 entries to a "
        assert seen.read(1000) == b"\r" + b" " * 29 + b"\r"
        with doing("reading " + 20 * "写"):  # each as wide as two letters
            assert seen.read(1000).decode() == "reading " + 10 * "写" + " "
        assert seen.read(1000) == b"\r" + b" " * 29 + b"\r"


def test_of_two_steps_one_in_the_other_the_inner_one_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_of(monkeypatch)
    with doing("loading a library with a long name"):
        with doing("reading"):
            assert terminal.lines == ["reading ..."]
        assert terminal.lines == [""]


def printed(to: Callable[[], object]) -> None:
    @on_plain_output
    def entry() -> int:
        with doing("loading a library"):
            to()
        return 0

    assert entry() == 0


def test_a_line_that_is_printed_meanwhile_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    printed(lambda: print("ready", file=sys.stderr))
    assert terminal.lines == ["ready", ""]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_what_cannot_move_back_gets_a_line_about_what_takes_longer(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stream()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "dumb" if stream is Terminal else "xterm")
    printed(lambda: None)
    assert made.getvalue() == ""
    monkeypatch.setattr(status, "_LATER_SECONDS", 0.01)
    with doing("loading a library"):
        deadline = time.monotonic() + 60
        while not made.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert made.getvalue() == "loading a library ...\n"
    made.close()
    printed(lambda: None)  # nor does a stream that is closed fail a command


@pytest.mark.parametrize(
    ("total", "at_once", "said"),
    [
        (400, 10, [f"{n} of 400 pictures labelled, {s}" for n, s in {
            20: "38 s left", 120: "28 s left", 220: "18 s left", 320: "8.0 s left"}.items()]),
        (40, 1, [f"{n} of 40 pictures labelled, {s}" for n, s in {
            2: "38 s left", 12: "28 s left", 22: "18 s left", 32: "8.0 s left"}.items()]),
        (None, 1, [f"{n} pictures labelled" for n in (2, 12, 22, 32)]),
    ],
)  # fmt: skip
def test_long_work_says_how_much_is_done_and_when_the_rest_will_be(
    total: int | None,
    at_once: int,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = [0]
    monkeypatch.setattr(status, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    with caplog.at_level(logging.INFO, status.__name__):
        work = with_progress(range(40), total, "pictures labelled", lambda _: at_once)
        for number, item in enumerate(work):
            assert item == number
            seconds[0] += 1
    assert caplog.messages == said


def test_another_text_takes_the_place_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with doing("waiting for a long while") as show:
        show("3 of 4")
        assert terminal.lines == ["3 of 4 ..."]
    assert terminal.lines == [""]
