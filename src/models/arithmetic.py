"""Number formats, memory layouts and threads that networks compute in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["AUTOCAST", "MEMORY_FORMATS", "autocast"]

# The dtype of torch's autocast for `runtime.precision`; float32 needs none.
AUTOCAST = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
# The layouts of `runtime.memory_format`.
MEMORY_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """Compute in `precision` ("float32", "bfloat16", "float16"), as in training."""
    dtype = AUTOCAST[precision]
    with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        yield


@contextmanager
def own_threads(count: int | None = None) -> Iterator[None]:
    """Compute on so many threads, if stated; whatever is set meanwhile is taken back."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
