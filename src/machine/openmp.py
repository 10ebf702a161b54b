"""The waiting of OpenMP's threads for each other, set before a library loads OpenMP.

A thread that has finished its part of a loop waits for the others by spinning, for some 20 ms as
GNU's OpenMP comes, before it sleeps. Where other programs hold the cores it spins on a core that
the thread it waits for could use, and a training slows down by far more than its share of the
machine. A short spin costs next to nothing on an idle machine, where all threads arrive within
microseconds, and bounds what is lost on a busy one.

torch, its MKL and scikit-learn load GNU's OpenMP on Linux (libgomp reads OMP_WAIT_POLICY and
GOMP_SPINCOUNT), and Intel's or LLVM's elsewhere (KMP_BLOCKTIME). All read the variables once, when
they are loaded, so this is imported before any of them, by the package itself. Processes that are
started later inherit the variables.

The variables do not reach the barriers inside oneDNN's kernels, of which the gradient of a
convolution's weights has some; against those only fewer threads help (`src.machine.cpu_load`).
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

__all__ = ["WAITING", "wait_briefly"]

WAITING = {
    "GOMP_SPINCOUNT": "10000",  # some 0.5 ms
    "KMP_BLOCKTIME": "1",  # ms
}
# Any of these is the user's own choice.
_CHOICES = ("OMP_WAIT_POLICY", *WAITING)


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Set the variables of `WAITING`, unless the environment has a setting of waiting."""
    if not any(name in environment for name in _CHOICES):
        environment.update(WAITING)


wait_briefly(os.environ)
