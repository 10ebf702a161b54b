"""What a machine runs short of, which says nothing about the picture that was being read."""

from __future__ import annotations

import errno

from src.config.checks import ConfigError
from src.machine.disk import OF_THE_PROCESS

__all__ = ["shortage"]


def shortage(error: BaseException, doing: str) -> ConfigError | None:
    """Return the sentence for an error that means too little memory or too many open files.

    Args:
        doing: what was being done, to be read after "while".

    Returns:
        None for any other error.
    """
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return ConfigError(
            f"there was not enough memory while {doing}: end other programs, or say "
            "data.num_workers=1 to have fewer pictures in memory at a time."
        )
    if number in OF_THE_PROCESS:
        return ConfigError(
            f"too many files were open while {doing}: allow more (ulimit -n 4096), or say "
            "data.num_workers=1."
        )
    return None
