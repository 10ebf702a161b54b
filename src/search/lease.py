"""A lease that keeps a study to one driver, where drivers do not share the folder and its lock."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

__all__ = ["Lease", "StudyBusy"]

_KEY = "driver"
_LASTS_SECONDS = 60.0
_RENEW_SECONDS = 15.0
_WATCH_SECONDS = 1.5 * _RENEW_SECONDS
_LOOK_SECONDS = 1.0


class StudyBusy(ValueError):
    """Another process drives this study, or its storage does not answer."""


class Lease:
    """A timestamp of the driver, kept in a study that other machines reach too.

    A driver that died is known at once on its own machine, and elsewhere after a minute. Of two
    that begin in the same moment the one that renews first steps back. Clocks of two machines
    differ, and one that is set jumps: a driver that seems silent is watched before it counts as
    dead.

    Args:
        name: of the study.
        recall, remember: read and write a plain value of the study.
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
        """Take the lease.

        Raises:
            StudyBusy: another process does.
        """
        other = self._recall(_KEY)
        if other and not self._is_me(other) and not self._is_dead(other):
            age = max(0.0, time.time() - other["at"])
            raise StudyBusy(
                f"the study {self._name} is being driven by process {other['pid']} on "
                f"{other['host']} (heard of {age:.0f} s ago): end it, or wait a minute if it is "
                "dead"
            )
        self._renew()

    def renew(self) -> None:
        """Renew the lease, if it is time to.

        Raises:
            StudyBusy: another process drives the study meanwhile.
        """
        if self._renewed is None or time.monotonic() - self._renewed < _RENEW_SECONDS:
            return
        other = self._recall(_KEY)
        if other and not self._is_me(other):
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
                self._remember(_KEY, None)

    def _renew(self) -> None:
        self._remember(_KEY, self._me | {"at": time.time()})
        self._renewed = time.monotonic()

    def _is_me(self, other: dict[str, Any]) -> bool:
        return all(other[key] == value for key, value in self._me.items())

    def _is_dead(self, other: dict[str, Any]) -> bool:
        here = other["host"] == self._me["host"]
        if here and not psutil.pid_exists(other["pid"]):
            return True
        if 0 <= time.time() - other["at"] < _LASTS_SECONDS:
            return False
        return not self._is_renewed(other)

    def _is_renewed(self, other: dict[str, Any]) -> bool:
        """Return whether the other renews in time, by a clock that is never set."""
        began = time.monotonic()
        while time.monotonic() - began < _WATCH_SECONDS:
            time.sleep(_LOOK_SECONDS)
            if self._recall(_KEY) != other:
                return self._recall(_KEY) is not None
        return False
