"""The waiting of the threads of OpenMP and OpenBLAS, set before a library loads these.

A thread that has finished its part of a loop waits for the others by spinning, for some 20 ms as
GNU's OpenMP comes. Where other programs hold the cores it spins on a core that the thread it waits
for could use. A short spin costs next to nothing on an idle machine, where all threads arrive
within microseconds, and bounds what is lost on a busy one.

GNU's OpenMP (GOMP_SPINCOUNT) and Intel's or LLVM's (KMP_BLOCKTIME) read the variables once, when
torch, its MKL or scikit-learn load them, and so does NumPy's OpenBLAS, whose threads spin as long
for further work, on the cores that a network of torch computes with next. So this is imported
before any of them, by the package itself. The barriers inside oneDNN's kernels do not heed them;
against those only fewer threads help (`src.machine.cpu_load`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

__all__ = ["WAITING", "compute_alone", "wait_briefly"]

WAITING = {
    "GOMP_SPINCOUNT": "10000",  # some 0.5 ms
    "KMP_BLOCKTIME": "1",  # ms
    "OPENBLAS_THREAD_TIMEOUT": "20",  # 2^20 cycles, some 0.5 ms
}
# Any of these is the user's own choice.
_CHOICES = ("OMP_WAIT_POLICY", *WAITING)


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Set the variables of `WAITING`, unless the environment has a setting of waiting."""
    if not any(name in environment for name in _CHOICES):
        environment.update(WAITING)


def compute_alone() -> None:
    """Have the loaded libraries compute with one thread in this process, which is a fork.

    It has none of the threads that OpenMP keeps in its parent, and would wait for them for ever.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    if threadpoolctl := sys.modules.get("threadpoolctl"):  # where scikit-learn is loaded
        threadpoolctl.threadpool_limits(1)


wait_briefly(os.environ)
