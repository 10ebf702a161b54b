"""Ctrl-C, SIGTERM, SIGHUP: finish the batch, leave a resumable run, end with the usual code."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupted", "Interruption", "Stopped"]


class Interrupted(Exception):
    """The user or the system asked to stop.

    Attributes:
        signum: the signal; `exit_code` is 128 + signum (130 for Ctrl-C, 143 for SIGTERM, 129
            for a terminal that was closed).
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


class Stopped(Exception):
    """Whoever watches a run wants no more of it: a sweep that prunes. The message says why."""


class Interruption:
    """Context that turns SIGINT, SIGTERM and SIGHUP into `Interrupted`.

    Between `defer(True)` and `defer(False)` the first signal only sets a flag, for whoever asks
    `pending` or calls `check()` at a place where the state is whole; a second signal raises at
    once. Otherwise the first one raises at once.
    Handlers can only be set on the main thread; elsewhere the context does nothing.
    """

    # SIGHUP is that of a terminal that is closed; Windows has none.
    _SIGNALS = tuple(
        getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
    )

    def __init__(self) -> None:
        self._signum: int | None = None
        self._insisted = False
        self._deferring = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()

    @property
    def pending(self) -> bool:
        """Whether a signal came."""
        return self._signum is not None

    @property
    def insisted(self) -> bool:
        """Whether a second signal came: at once."""
        return self._insisted

    def install(self) -> None:
        """Take the signals (again: Lightning sets handlers of its own when a fit begins)."""
        if threading.current_thread() is threading.main_thread():
            for signum in self._SIGNALS:
                if _is_unwanted(signum):
                    continue
                previous = signal.signal(signum, self._handle)
                self._previous.setdefault(signum, previous)

    def defer(self, deferring: bool) -> None:
        """From here on the first signal waits for `check()`, or (False) raises at once."""
        self._deferring = deferring

    def check(self) -> None:
        """Raise the signal that waits, if one does.

        Raises:
            Interrupted: when a signal came since `defer(True)`.
        """
        if self._signum is not None:
            raise Interrupted(self._signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        first, self._signum = self._signum is None, signum
        self._insisted = not first
        if not (first and self._deferring):
            raise Interrupted(signum)
        # Not `print`: the signal may have come in the middle of one.
        with suppress(OSError):
            os.write(2, b"\nsaving, then stopping; once more to stop at once\n")


def _is_unwanted(signum: int) -> bool:
    """`nohup` has a command ignore the end of its terminal, and that is to stay so."""
    return signum == getattr(signal, "SIGHUP", None) and signal.getsignal(signum) == signal.SIG_IGN
