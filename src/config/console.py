"""Standard output and standard error that accept any text and show no control characters.

Names of files and classes reach a terminal in many places. Here, where all come through, escape
sequences are made visible, and what the terminal's encoding lacks is written as an escape.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TextIO, cast

from ..machine.disk import refusal
from ..machine.status import clear_status
from ..machine.text import visible_lines
from .checks import ConfigError, not_written

__all__ = ["OutputLost", "direct", "give_up", "on_plain_output", "take_any_text", "written_to"]

P = ParamSpec("P")


class OutputLost(ConfigError):
    """Standard output cannot be written: a full disk, a device that is gone."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror}.")


class _PlainText:
    """Writes to another stream with control characters as escapes; all else is the other's.

    A carriage return passes: libraries draw progress with it. Names lose theirs in `visible`.
    What is `needed` must arrive; remarks for a person need not.
    """

    def __init__(self, stream: TextIO, *, needed: bool) -> None:
        self.stream = stream
        self._needed = needed

    def write(self, text: str) -> int:
        plain = "\r".join(map(visible_lines, text.split("\r")))
        clear_status()
        self._try(lambda: self.stream.write(plain))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def close(self) -> None:
        """Leave the other stream open: it is the process's own."""

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            if self._needed:
                give_up(self.stream)
                if isinstance(error, BrokenPipeError):
                    raise
                raise OutputLost(error) from error


def on_plain_output(entry: Callable[P, int]) -> Callable[P, int]:
    """Make all output of an entry plain text, and flush it before the entry returns.

    The exit code becomes 2 where standard output cannot be written, and 1 where its reader ended.
    """

    @wraps(entry)
    def plain(*args: P.args, **kwargs: P.kwargs) -> int:
        streams = sys.stdout, sys.stderr
        _replace_closed()
        take_any_text()
        sys.stdout = cast(TextIO, _PlainText(sys.stdout, needed=True))
        sys.stderr = cast(TextIO, _PlainText(sys.stderr, needed=False))
        code = 0
        try:
            try:
                code = entry(*args, **kwargs)
                sys.stdout.flush()
            except BrokenPipeError:
                return max(code, 1)
            except OutputLost as error:
                print(f"error: {error}", file=sys.stderr)
                return max(code, 2)
            return code
        finally:
            sys.stdout, sys.stderr = streams

    return plain


@contextmanager
def written_to(key: str, place: Path) -> Iterator[None]:
    """Turn an OSError of the block into a ConfigError about the setting `key`.

    The message names `place` where the error names no file. A full disk becomes `DiskRefuses`.
    """
    try:
        yield
    except BrokenPipeError:  # of standard output
        raise
    except OSError as error:
        where = error.filename2 or error.filename or place  # an error of copying names both
        reason = refusal(error, place) or error.strerror
        raise not_written(error, f"{key}: {where} cannot be written: {reason}.") from error


def _replace_closed() -> None:
    """Discard output to a closed stream, which is None in Python (`>&-`, `2>&-`)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def take_any_text() -> None:
    """Let standard output and error write as escapes what their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def direct(stream: TextIO) -> TextIO:
    """Return the stream itself, for what draws on a terminal or writes data."""
    return stream.stream if isinstance(stream, _PlainText) else stream


def give_up(stream: TextIO) -> None:
    """Discard buffered output, which Python would try to write again at its end, with an error."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
