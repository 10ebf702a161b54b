"""The end of a command without the collection of all its objects, which takes Python seconds.

When a process ends, Python looks for cycles among all objects that torch and MLflow have made,
twice. The operating system frees the memory at once.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

__all__ = ["leave"]

_codes: list[int] = []  # of the command that ends


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
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or its reader is gone
            stream.flush()
    os._exit(_codes[-1])
