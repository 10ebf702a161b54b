"""Work on a GPU that is launched as one captured CUDA graph in place of hundreds of kernels.

Where networks or batches are small, a step takes as long as the processor needs to launch its
kernels. A graph of them is launched at once, and computes on the memory that it was captured with
(Ng et al., "Accelerating PyTorch with CUDA Graphs", 2021). Whatever cannot be captured is launched
kernel by kernel, as without graphs.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["GraphedPasses", "GraphedUpdate", "on_gpu"]

# Number of times that the same work is first launched kernel by kernel, while libraries choose
# kernels.
_EAGER = 2
# Smallest cosine of outputs and gradients with those of the same pass without graphs.
_LEAST_COSINE = 0.99


class GraphedPasses:
    """Calls a network in training, its forward and backward pass as a graph each.

    What normalises its pictures is part of the forward pass. They are captured at the third call in
    a row with pictures of one shape and parameters that are trained or not as before, compared with
    the passes they replace, and given up for good where that fails. Gradients are what the passes
    without graphs compute, bit for bit where these are deterministic. They lie where the next pass
    writes its own: they must be used, and set to None, before that. No graph of autograd of an
    earlier pass may be alive at the third call: its nodes belong to a stream that cannot be waited
    for meanwhile.

    Args:
        network: in training mode. Its copies, its state and its other callers see nothing of this.
        normalization: without parameters; pictures (B, C, H, W), uint8 or float32, to those that
            the network takes, equal for equal numbers of both types.
        wanted: whether to capture at all.
    """

    def __init__(self, network: nn.Module, normalization: nn.Module, *, wanted: bool) -> None:
        self._network = network
        self._normalization = normalization
        self._parameters = [*network.parameters()]
        self._wanted = wanted
        self._key: Hashable = None
        self._calls = 0
        self._graphed: Callable[[Tensor], Tensor] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Return the network's outputs for pictures (B, C, H, W), uint8 or float32."""
        if not (self._wanted and on_gpu(images) and torch.is_grad_enabled()):
            return self._output(images)
        trained = tuple(p.requires_grad for p in self._parameters)
        key = images.shape, trained, torch.is_autocast_enabled("cuda")
        if key != self._key:
            self.release()
            self._key = key
        self._calls += 1
        if self._graphed is None and self._calls > _EAGER:
            self._capture(images)
        return self._output(images) if self._graphed is None else self._graphed(images)

    def release(self) -> None:
        """Give back the memory of the graphs; the next call begins anew."""
        self._key, self._calls, self._graphed = None, 0, None

    def _output(self, images: Tensor) -> Tensor:
        return self._network(self._normalization(images))

    def _capture(self, images: Tensor) -> None:
        statistics = [buffer.clone() for buffer in self._network.buffers()]
        half = torch.get_autocast_dtype("cuda")
        on = torch.is_autocast_enabled("cuda")
        try:
            # Weights that are cast once for several passes cannot be captured.
            with _capturing(), torch.autocast("cuda", half, enabled=on, cache_enabled=False):
                sound = self._compared(images)
        except (RuntimeError, AssertionError) as error:
            self._give_up(str(error).partition("\n")[0])
        else:
            if not sound:
                self._give_up("they compute something else")
        for buffer, kept in zip(self._network.buffers(), statistics, strict=True):
            buffer.copy_(kept)

    def _compared(self, images: Tensor) -> bool:
        """Capture the passes, and return whether they compute what those without graphs do."""
        device = images.device
        # Captured passes keep nodes of their stream: nothing to warn of at every backward pass.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        with torch.random.fork_rng(devices=[device]):
            right = self._passed(self._output, images)
        with torch.random.fork_rng(devices=[device]):
            # Its `forward` is replaced, and that of the network stays. Later batches are copied to
            # where the first one is; float32 holds those of bytes and those that were blended.
            graphed = nn.Sequential(self._normalization, self._network)
            first = images.to(torch.float32, copy=True)
            torch.cuda.make_graphed_callables(graphed, (first,), allow_unused_input=True)
        self._graphed = graphed
        with torch.random.fork_rng(devices=[device]):
            found = self._passed(graphed, images)
        cosine = nn.functional.cosine_similarity(found, right, dim=0)
        return bool(cosine >= _LEAST_COSINE)  # NaN compares false

    def _passed(self, passes: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Return a pass's outputs and gradients, each of unit length, as one vector."""
        output = passes(images)
        trained = [p for p in self._parameters if p.requires_grad]
        loss = nn.functional.log_softmax(output.flatten(1).float(), dim=1)[:, 0].mean()
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        flat = torch.cat([g.detach().float().flatten() for g in gradients if g is not None])
        parts = [output.detach().float().flatten(), flat]
        return torch.cat([nn.functional.normalize(part, dim=0) for part in parts])

    def _give_up(self, why: str) -> None:
        self.release()
        self._wanted = False
        torch.cuda.empty_cache()
        print(
            f"runtime: no CUDA graphs of this network, its kernels are launched one by one: {why}",
            file=sys.stderr,
            flush=True,
        )


class GraphedUpdate:
    """Runs an update of tensors on a GPU as a graph, from the third time on that it finds them all
    where they were.

    Args:
        update: changes tensors in place; what differs from time to time it reads from tensors.
    """

    def __init__(self, update: Callable[[], None]) -> None:
        self._update = update
        self._key: Hashable = None
        self._times = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._refused = False

    def __call__(self, key: Hashable) -> None:
        """Update; `key` is equal as long as all tensors of the update lie where they did."""
        if key != self._key:
            self._key, self._times, self._graph = key, 0, None
        self._times += 1
        if self._graph is None and self._times > _EAGER and not self._refused:
            self._graph = self._captured()
        if self._graph is None:
            self._update()
        else:
            self._graph.replay()

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        graph = torch.cuda.CUDAGraph()
        try:
            with _capturing(), torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._update()
        except RuntimeError:
            self._refused = True
            return None
        return graph


@contextmanager
def _capturing() -> Iterator[None]:
    """Keep a capture from being broken, and undo what one that fails leaves behind.

    Earlier graphs that Python's collector frees meanwhile would break it. After one that fails the
    generators may be in the state of a capture, in which nothing can be drawn, and its stream may
    be the current one (torch 2.11).
    """
    ready, collects = torch.cuda.is_initialized(), gc.isenabled()
    generators = torch.cuda.default_generators if ready else ()
    states = [generator.clone_state() for generator in generators]
    stream = torch.cuda.current_stream() if ready else None
    gc.disable()
    try:
        yield
    except BaseException:
        for generator, before in zip(generators, states, strict=True):
            generator.graphsafe_set_state(before)
        if stream is not None:
            torch.cuda.set_stream(stream)
        raise
    finally:
        if collects:
            gc.enable()


def on_gpu(tensor: Tensor) -> bool:
    """Return whether a tensor lies on a GPU that can capture graphs."""
    return tensor.is_cuda and torch.cuda.is_initialized()
