from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from src.config.console import on_plain_output
from src.machine.status import doing


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
def test_programs_and_terminals_that_cannot_move_back_get_nothing(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stream()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "dumb" if stream is Terminal else "xterm")
    printed(lambda: None)
    assert made.getvalue() == ""
    made.close()
    printed(lambda: None)  # nor does a stream that is closed fail a command
