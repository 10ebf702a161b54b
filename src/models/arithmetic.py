"""Number formats, memory layouts and threads that networks compute in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["AUTOCAST", "MEMORY_FORMATS", "autocast", "depthwise_in_float32", "own_threads"]

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


def depthwise_in_float32(device: torch.device) -> AbstractContextManager[Any]:
    """Compute depthwise convolutions in single precision where autocast of the CPU would take half.

    Their backward passes in bfloat16 take 3 to 14 times as long (oneDNN of torch 2.15), which made
    half of a step of an EfficientNet. What comes out of them is half precision all the same.
    """
    half = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return _DepthwiseInFloat32() if half else nullcontext()


class _DepthwiseInFloat32(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.conv2d or not _is_depthwise(*args, **kwargs):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            found = func(args[0].float(), *args[1:], **kwargs)
        return found.to(torch.get_autocast_dtype("cpu"))


def _is_depthwise(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    return groups > 1 and weight.shape[1] == 1
