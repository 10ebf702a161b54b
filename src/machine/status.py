"""A line on a terminal that says what takes a moment, and goes when it is over.

Programs that read standard error, and terminals that cannot move back, get nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["clear_status", "doing"]

_NO_CURSOR = ("dumb", "unknown")
_shown: list[str] = []  # one at most


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Show `what` on a terminal's standard error until the block ends or a line is printed."""
    _show(what)
    try:
        yield
    finally:
        clear_status()


def clear_status() -> None:
    """Take the line off the terminal; what prints calls it first."""
    if _shown:
        _write(f"\r{' ' * len(_shown.pop())}\r")


def _show(what: str) -> None:
    clear_status()
    with suppress(ValueError):  # a stream that is closed
        if sys.stderr.isatty() and os.environ.get("TERM") not in _NO_CURSOR:
            text = f"{what} ..."
            _write(text)
            _shown.append(text)


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal is gone
        sys.stderr.write(text)
        sys.stderr.flush()
