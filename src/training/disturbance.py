"""Whether other programs hold the cores while something is timed."""

from __future__ import annotations

import os
import time
from types import TracebackType

import psutil

__all__ = ["Disturbance", "is_idle"]

# Of one core. Less is what every system does beside its work.
_NOTICEABLE = 0.25
_GLANCE_SECONDS = 0.2


class Disturbance:
    """Watches the machine from entry to exit.

    Attributes:
        noticed: whether others used more than a quarter of a core on average.
    """

    def __init__(self) -> None:
        self.noticed = False

    def __enter__(self) -> Disturbance:
        self._began, self._busy, self._own = _clocks()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ended, busy, own = _clocks()
        others = (busy - self._busy) - (own - self._own)
        self.noticed = others > _NOTICEABLE * (ended - self._began)


def is_idle() -> bool:
    """Whether others leave the cores alone just now; looks for a fifth of a second."""
    with Disturbance() as disturbance:
        time.sleep(_GLANCE_SECONDS)
    return not disturbance.noticed


def _clocks() -> tuple[float, float, float]:
    """Seconds: of the wall, of all cores at work, of this process at work."""
    cores = psutil.cpu_times()
    idle = cores.idle + getattr(cores, "iowait", 0.0)
    # guest time is part of user time already
    busy = sum(cores) - idle - getattr(cores, "guest", 0.0) - getattr(cores, "guest_nice", 0.0)
    own = os.times()
    return time.perf_counter(), busy, own.user + own.system
