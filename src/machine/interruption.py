"""Handling of Ctrl-C, SIGTERM and SIGHUP: finish the batch, save, end with the usual code."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, Self

from .failures import RunFailed

__all__ = [
    "Interrupted",
    "Interruption",
    "Stopped",
    "give_reason",
    "interruption_behind",
    "signals_so_far",
]

# Reason for which this process will be signalled, if known.
_reason: str | None = None
_signals = 0  # that came to this process


def give_reason(reason: str | None) -> None:
    """Set the message of `Interrupted`, instead of the signal's name; None for the name."""
    global _reason  # noqa: PLW0603 - a signal is for the whole process
    _reason = reason


def signals_so_far() -> int:
    """Return how many signals came: what only waits ends with the next one, deferred or not."""
    return _signals


class Interrupted(BaseException):
    """The user or the system asked to stop.

    Like Python's own `KeyboardInterrupt` it is no `Exception`: readers of files and exporters catch
    all of those, and would call a picture, a checkpoint or a network damaged.

    Attributes:
        signum: the signal; `exit_code` is 128 + signum (130 for Ctrl-C, 143 for SIGTERM, 129
            for a terminal that was closed).
    """

    def __init__(self, signum: int) -> None:
        super().__init__(_reason or f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


def interruption_behind(error: BaseException) -> Interrupted | None:
    """Return the `Interrupted` in whose place an exception was raised; None where there is none.

    Libraries that are interrupted close in a `finally` what was never opened, or take what was
    begun for damaged, and the exception of that is the one that arrives. A `RunFailed` stays: that
    the state could not be saved when the run was stopped.
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(error, RunFailed):
        if isinstance(seen, Interrupted):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


class Stopped(Exception):
    """A run is ended from outside, such as by a sweep that prunes; the message is the reason."""


class Interruption:
    """Context that turns SIGINT, SIGTERM and SIGHUP into `Interrupted`.

    Between `defer(True)` and `defer(False)` the first signal only sets a flag, for `pending` and
    `check()` at a place where the state can be saved; a second signal raises at once. Otherwise
    the first one raises at once. An exception that was raised in its place leaves the context as
    `Interrupted`. Handlers can only be set on the main thread; elsewhere the context does nothing.

    Attributes:
        insisted: whether a second signal came.
    """

    # SIGHUP is sent when a terminal is closed; Windows has none.
    _SIGNALS = tuple(
        getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
    )

    def __init__(self) -> None:
        self._signum: int | None = None
        self.insisted = False
        self._deferring = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()
        if isinstance(error, Exception) and (stop := interruption_behind(error)):
            raise stop

    @property
    def pending(self) -> bool:
        """Whether a signal came."""
        return self._signum is not None

    def install(self) -> None:
        """Set the handlers; again when a fit begins, as Lightning sets its own."""
        if threading.current_thread() is threading.main_thread():
            for signum in self._SIGNALS:
                # A command under `nohup` ignores SIGHUP, which is to stay so.
                ignored = signal.getsignal(signum) == signal.SIG_IGN
                if not (ignored and signum == getattr(signal, "SIGHUP", None)):
                    self._previous.setdefault(signum, signal.signal(signum, self._handle))

    def defer(self, deferring: bool) -> None:
        """Have the first signal wait for `check()`, or (False) raise at once."""
        self._deferring = deferring

    def check(self) -> None:
        """Raise `Interrupted` if a signal came since `defer(True)`."""
        if self._signum is not None:
            raise Interrupted(self._signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        global _signals  # noqa: PLW0603 - a signal is for the whole process
        _signals += 1
        first, self._signum = self._signum is None, signum
        self.insisted = not first
        if not (first and self._deferring):
            raise Interrupted(signum)
        # Not `print`: the signal may have come in the middle of one.
        with suppress(OSError):
            os.write(2, b"\nsaving, then stopping; once more to stop at once\n")
