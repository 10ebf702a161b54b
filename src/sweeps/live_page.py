"""The page of a sweep while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ..records.trials import SweepRecord, TrialRecord
from ..search.loop import Observer
from ..storage.files import write_atomically

__all__ = ["LivePage"]

_LEAST_SECONDS = 5.0
# In which it is written at least, as a sign that the race runs.
_SIGN_SECONDS = 60.0
# Of the time of the driver, which trials on the same cores need.
_MOST_SHARE = 0.01


class LivePage(Observer):
    """Keeps the page of a sweep up to date where trials begin and end, for whoever looks meanwhile.

    It is written at most every 5 s, and takes 1 % of the driver's time at most. From the first
    trial on it is written every minute at least, since a driver that was killed writes none: from
    that the page knows. A disk without room for it ends no race.

    Args:
        path: of the page, in a folder that is there.
        record: gives the sweep as it stands.
        show: shows a line, which says once where the page is.
        clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        path: Path,
        record: Callable[[], SweepRecord],
        show: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._record = record
        self._show = show
        self._clock = clock
        self._is_old = self._is_known = False
        self._pause = 0.0
        self._next, self._sign = clock(), math.inf  # when it may, and when it must be written

    def began(self, slot: int, trial: TrialRecord, steps: int) -> None:
        self._is_old = True

    def ended(self, slot: int, trial: TrialRecord, best: TrialRecord | None) -> None:
        self._is_old = True

    def tick(self, counts: Mapping[str, int], left: str) -> None:
        """Write the page if it is time to, and there is news or was none for long."""
        now = self._clock()
        if now < self._next or not (self._is_old or now >= self._sign):
            return
        from ..reporting.sweep_report import sweep_page

        began = time.thread_time()
        with suppress(OSError):
            within = max(_SIGN_SECONDS, self._pause)
            page = sweep_page(self._record(), as_of=datetime.now(), next_within=within)
            write_atomically(self._path, page)
            if not self._is_known:
                self._show(f"page: {self._path}, up to date while the race runs")
                self._is_known = True
        self._is_old = False
        self._pause = max(_LEAST_SECONDS, (time.thread_time() - began) / _MOST_SHARE)
        self._next, self._sign = now + self._pause, now + _SIGN_SECONDS
