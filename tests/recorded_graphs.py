"""CUDA graphs without a GPU: operations are recorded, and repeated on the memory that they had.

As on a GPU, a graph runs no Python when it is replayed: whatever a number, a shape or a branch was
while it was recorded stays so, and it reads and writes the tensors of that time. Streams and memory
that several graphs share have no counterpart here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from src.training import cuda_graphs, optimizers

__all__ = ["RecordedGraph", "use_recorded_graphs"]

# What brings a value to the processor, for which no graph can wait.
_READS = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select"}


class RecordedGraph:
    """Stands in for `torch.cuda.CUDAGraph`."""

    replays = 0  # of all graphs

    def __init__(self) -> None:
        self.recorded: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Any]]] = []

    def replay(self) -> None:
        RecordedGraph.replays += 1
        with _disable_current_modes(), torch.no_grad():
            for func, args, kwargs, outputs in self.recorded:
                for old, new in zip(outputs, tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Recording(TorchDispatchMode):
    """Records what is computed, and at the end takes back what it did to earlier tensors."""

    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self._graph = graph
        self._own: set[int] = set()  # storages that were made meanwhile
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.overloadpacket.__name__ in _READS:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        for one in filter(torch.is_tensor, tree_leaves((args, kwargs))):
            place = one.untyped_storage().data_ptr()
            if place not in self._own and one.data_ptr() not in self._before:
                self._before[one.data_ptr()] = one.detach(), one.detach().clone()
        found = func(*args, **kwargs)
        # Other objects of the same memory: what a graph holds must not keep autograd's nodes.
        held = [one.detach() if torch.is_tensor(one) else one for one in tree_leaves(found)]
        known = {tensor.untyped_storage().data_ptr() for tensor, _ in self._before.values()}
        made = {one.untyped_storage().data_ptr() for one in filter(torch.is_tensor, held)}
        self._own |= made - known
        self._graph.recorded.append((func, args, kwargs, held))
        return found

    def take_back(self) -> None:
        for tensor, before in self._before.values():
            tensor.copy_(before)


@contextmanager
def _recording(graph: RecordedGraph, **_: Any) -> Iterator[None]:
    mode, generator = _Recording(graph), torch.get_rng_state()
    try:
        with mode:
            yield
    finally:
        mode.take_back()
        torch.set_rng_state(generator)


def use_recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the project capture graphs of what it computes on the CPU."""
    RecordedGraph.replays = 0
    fork = torch.random.fork_rng
    for module in (cuda_graphs, optimizers):
        monkeypatch.setattr(module, "on_gpu", lambda tensor: True)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: fork([]))
    for name, stand_in in {
        "CUDAGraph": RecordedGraph,
        "graph": _recording,
        "synchronize": lambda: None,
        "Stream": lambda: None,
        "stream": lambda stream: nullcontext(),
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.cuda.graphs, "graph_pool_handle", lambda: None)
