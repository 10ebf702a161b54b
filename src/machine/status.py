"""Status messages on standard error during steps that take a moment.

A terminal shows it in a line that goes when it is over. Logs and notebooks, which cannot move back,
get a line that stays, where it takes longer than two seconds.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from rich.cells import cell_len, set_cell_size

from .text import duration

__all__ = ["clear_status", "doing", "with_progress"]

T = TypeVar("T")

_log = logging.getLogger(__name__)
_NO_CURSOR = ("dumb", "unknown")
_LATER_SECONDS, _AGAIN_SECONDS = 2.0, 10.0
_shown: list[str] = []  # one at most


@contextmanager
def doing(what: str) -> Iterator[Callable[[str], None]]:
    """Show `what` until the block ends; on a terminal, until a line is printed.

    The block gets a function that shows another text in its place, on a terminal alone.
    """
    later = _show(f"{what} ...")

    def instead(text: str) -> None:
        if later is None:
            _show(f"{text} ...")

    try:
        yield instead
    finally:
        if later is not None:
            later.cancel()
        clear_status()


def with_progress(
    items: Iterable[T], total: int | None, what: str, each: Callable[[T], int] = lambda _: 1
) -> Iterator[T]:
    """Yield items; log after two seconds, and then every ten, how many there were.

    Args:
        total: how many things there are, from which the time that is left follows; None if that is
            not known.
        what: the things and what is done with them, as in "pictures labelled".
        each: how many things an item is.
    """
    began = time.monotonic()
    due, done = began + _LATER_SECONDS, 0
    for item in items:
        yield item
        done += each(item)
        now = time.monotonic()
        if now < due or done >= (total or math.inf):
            continue
        due = now + _AGAIN_SECONDS
        if total is None:
            _log.info("%s %s", f"{done:,}", what)
        elif done:
            left = duration((now - began) * (total / done - 1))
            _log.info("%s of %s %s, %s left", f"{done:,}", f"{total:,}", what, left)


def clear_status() -> None:
    """Take the line off the terminal; what prints calls it first."""
    if _shown:
        _write(f"\r{' ' * cell_len(_shown.pop())}\r")


def _show(text: str) -> threading.Timer | None:
    """Show a text on a terminal; elsewhere return what writes it later, unless it is cancelled."""
    clear_status()
    with suppress(ValueError):  # a stream that is closed
        if sys.stderr.isatty() and os.environ.get("TERM") not in _NO_CURSOR:
            # What goes on in a second line of the terminal could not be taken off it.
            line = set_cell_size(text, min(cell_len(text), _columns() - 1))
            _write(line)
            _shown.append(line)
            return None
    later = threading.Timer(_LATER_SECONDS, _write, [f"{text}\n"])
    later.daemon = True
    later.start()
    return later


def _columns() -> int:
    """Return the width of the terminal, at least 2; 80 where it is not known."""
    with suppress(OSError, ValueError, AttributeError):
        return max(2, os.get_terminal_size(sys.stderr.fileno()).columns or 80)
    return 80


def _write(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal is gone
        sys.stderr.write(text)
        sys.stderr.flush()
