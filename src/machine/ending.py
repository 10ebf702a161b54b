"""The end of a command without the collection of all its objects, which takes Python seconds.

When a process ends, Python looks for cycles among all objects that torch and MLflow have made,
twice. The operating system frees the memory at once.

A command that was given with `python -m` also ends at once by Ctrl-C before and after the part in
which it handles that itself (`machine.interruption`), where Python would print a traceback.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

__all__ = ["leave"]

_codes: list[int] = []  # of the command that ends

# While Python imports the package of a module that it was asked to run, "-m" stands where the
# module's file comes later. Any other program that imports the package keeps its handlers.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def leave(code: int) -> NoReturn:
    """End a command with an exit code, as `sys.exit` does, but without collecting its objects.

    Other threads are waited for, and functions that were registered with `atexit` since this module
    was imported are called, as always.
    """
    _codes.append(code)
    sys.exit(code)


# The function that was registered first is called last: the package imports this module before
# others. Until then it does nothing, so that importing the package changes no program's end.
@atexit.register
def _end() -> None:
    if not _codes:
        return
    # Imported here, so that what is above is done as early as can be.
    import logging

    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or its reader is gone
            stream.flush()
    os._exit(_codes[-1])
