"""The frozen part at a network's input, computed once for all epochs of a training."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.loading.loaders import Batch
from ..machine.arrays import BytesArray, Int64Array
from ..machine.hardware import has_room
from ..models.arithmetic import autocast
from ..storage.array_files import header_bytes
from ..storage.cache import Entry, opened
from ..storage.growing import GrowingFile
from .freezing import unwrapped
from .inference import evaluating
from .task import ClassificationTask

__all__ = ["StoredFront", "store_front"]

_FILE = "activations.npy"
# Part of every folder's name; to be raised when the stored values change.
_VERSION = 3


@dataclass(frozen=True, eq=False)
class StoredFront:
    """Stored outputs of a network's frozen part for training pictures, and its trained rest.

    Attributes:
        activations: (V, n, ...) float16, of V views of n pictures, on a GPU or in a mapped file.
        ids: (n,) int64: the pictures' sample ids, on the same device.
        rest: activations (B, ...) -> logits (B, K), with the network's own parameters.
    """

    activations: Tensor
    ids: Tensor
    rest: nn.Module

    @cached_property
    def _order(self) -> Tensor:
        return self.ids.argsort()

    def logits(self, sample_ids: Tensor, view: int) -> Tensor:
        """Return logits (B, K) of one view of pictures by sample ids, on the device of these."""
        places = torch.searchsorted(self.ids, sample_ids.to(self.ids.device), sorter=self._order)
        found = self.activations[view].index_select(0, self._order[places])
        found = found.to(sample_ids.device).float()
        if found.ndim == 4:
            found = found.contiguous(memory_format=torch.channels_last)
        return self.rest(found)


def store_front(
    task: ClassificationTask,
    batches: Iterable[Batch],
    *,
    ids: Int64Array,
    contents: BytesArray,
    identity: Mapping[str, Any],
    cache_dir: Path,
    limit_bytes: int,
    device: torch.device,
    precision: str,
) -> StoredFront | None:
    """Compute, or find in the cache, the frozen part's outputs for all views of all pictures.

    View v of a picture is the one that epoch v would train on. They are kept as float16, which
    holds every bfloat16 number of usual size. None where the array would be too large or a value is
    beyond float16 (65,504), or where the rest of the network needs more than the output of the last
    frozen module; the frozen part is then computed in every epoch. A GPU that `has_room` for the
    outputs keeps them.

    Args:
        task: with frozen stages; moved to `device`.
        batches: every training picture once, in the same order each time.
        ids: (n,) sample ids of the training pictures, in that order.
        contents: (N,) hashes of the pictures, by sample id.
        identity: plain values that determine the views of pictures.
        cache_dir: the project's cache folder.
        limit_bytes: size of the largest array to keep.
        device, precision: of the computation, see `autocast`.

    Raises:
        ConfigError: the disk is full or cannot be written.
    """
    task.to(device)
    first = next(iter(batches))
    name = _last_frozen(task.network, first, task)
    if name is None:
        return None
    with autocast(device, precision):
        example = _front(task, name, first, 0, device)
    shape = (task.stored_views, len(ids), *example.shape[1:])
    if 2 * int(np.prod(shape)) > limit_bytes:
        return None
    key = _key(task, name, [*identity.items(), precision, *shape, ids.tolist()], contents[ids])

    def build(unfinished: Path) -> dict[str, Any]:
        # Written, not mapped: a full disk is then an error, and no fault of memory that kills.
        kept = GrowingFile(unfinished / _FILE, str(len(first.sample_ids)))
        if not kept.blocks:
            kept.add(header_bytes(shape, np.dtype(np.float16)), {})
        views = ((view, batch) for view in range(task.stored_views) for batch in batches)
        for view, batch in islice(views, len(kept.blocks) - 1, None):
            with autocast(device, precision):
                halves = _front(task, name, batch, view, device).to(torch.float16)
            if not halves.isfinite().all():
                kept.clear()  # no later start needs them
                raise _NotFloat16
            kept.add(halves.cpu().numpy().tobytes(), {})
        kept.close()
        return {}

    folder = cache_dir / "activations" / key
    try:
        activations = opened(folder, build, _mapped, what="the frozen stages' outputs")
    except _NotFloat16:
        return None
    there = device if has_room(device, activations.nbytes) else torch.device("cpu")
    rest = _rest_of(task.network, name)
    return StoredFront(activations.to(there), torch.from_numpy(ids).to(there), rest)


def _mapped(entry: Entry) -> Tensor:
    # To be written as far as NumPy knows, which torch asks for; nothing of it reaches the file.
    array: NDArray[np.float16] = np.load(entry.folder / _FILE, mmap_mode="c", allow_pickle=False)
    return torch.from_numpy(array)


class _LastFrozenDone(Exception):
    """The last frozen module has given its output."""


class _NotFloat16(Exception):
    """An output is infinite as float16, or no number at all."""


class _StoredOutput(nn.Module):
    """Replaces the last frozen module by its stored output."""

    activations: Tensor

    def forward(self, *_: Any) -> Tensor:
        return self.activations


class _TrainedRest(nn.Module):
    """The network after its last frozen module; trained modules are shared with the original."""

    def __init__(self, network: nn.Module, frozen: Iterable[str], last: str) -> None:
        super().__init__()
        self._stored = _StoredOutput()
        replacements: dict[str, nn.Module] = {name: nn.Identity() for name in frozen}
        # With the names of the modules that both have.
        self._originals: list[tuple[nn.Module, nn.Module, list[str]]] = []
        self._twin = self._shared(network, "", replacements | {last: self._stored})

    def forward(self, activations: Tensor) -> Tensor:
        for original, twin, shared in self._originals:
            twin.training = original.training
            # Modules may have been replaced since, as norms are on several devices.
            twin._modules |= {name: original._modules[name] for name in shared}
        self._stored.activations = activations
        return self._twin(activations)

    def _shared(
        self, module: nn.Module, prefix: str, replacements: Mapping[str, nn.Module]
    ) -> nn.Module:
        """Return `module` with some inner modules replaced, and all others shared."""
        twin = copy.copy(module)
        twin._modules = dict(module._modules)
        shared: list[str] = []
        self._originals.append((module, twin, shared))
        for name, child in module.named_children():
            within = f"{prefix}{name}"
            if within in replacements:
                twin._modules[name] = replacements[within]
            elif any(other.startswith(f"{within}.") for other in replacements):
                twin._modules[name] = self._shared(child, f"{within}.", replacements)
            else:
                shared.append(name)
        return twin


def _frozen_modules(network: nn.Module) -> list[str]:
    """Return the names of the largest modules whose parameters are all frozen."""
    found: list[str] = []
    for name, module in network.named_modules():
        parameters = [*module.parameters()]
        frozen = bool(parameters) and not any(p.requires_grad for p in parameters)
        if frozen and not any(name.startswith(f"{other}.") for other in found):
            found.append(name)
    return found


def _last_frozen(network: nn.Module, batch: Batch, task: ClassificationTask) -> str | None:
    """Return the last frozen module; None where the rest needs more than its output."""
    called: list[str] = []
    images = task.normalized(batch.images[:2].to(task.device))
    with ExitStack() as hooks, torch.no_grad(), evaluating(network):
        for name in _frozen_modules(network):
            note = network.get_submodule(name).register_forward_hook
            hooks.enter_context(note(lambda *_, name=name: called.append(name)))
        try:
            right = network(images)
            last = called[-1]
            found = _front_of(network, last, images)
            same = torch.equal(_rest_of(network, last)(found), right)
        except Exception:
            # Own operations between modules can fail in any way once these are replaced.
            return None
    return last if same else None


def _rest_of(network: nn.Module, last: str) -> _TrainedRest:
    # A wrapper that only resizes pictures is no part of the rest.
    prefix, inner = unwrapped(network)
    frozen = [name.removeprefix(prefix) for name in _frozen_modules(network)]
    return _TrainedRest(inner, frozen, last.removeprefix(prefix))


def _front(
    task: ClassificationTask, last: str, batch: Batch, view: int, device: torch.device
) -> Tensor:
    """Return the output of the last frozen module for one view of a batch."""
    images, targets, ids, step = batch
    batch = Batch(images.to(device), targets.to(device), ids.to(device), step)
    images, _ = task.augmented(batch, view)
    with torch.inference_mode(), evaluating(task.network):
        return _front_of(task.network, last, task.normalized(images))


def _front_of(network: nn.Module, last: str, images: Tensor) -> Tensor:
    found: list[Tensor] = []

    def stop(_: nn.Module, __: Any, output: Tensor) -> None:
        found.append(output)
        raise _LastFrozenDone

    with network.get_submodule(last).register_forward_hook(stop), suppress(_LastFrozenDone):
        network(images)
    return found[0]


def _key(task: ClassificationTask, last: str, plan: list[Any], contents: BytesArray) -> str:
    digest = hashlib.blake2b(digest_size=16)
    described = task.metadata["network"]
    stated = [_VERSION, described, last, task.mean.tolist(), task.std.tolist(), plan]
    digest.update(json.dumps(stated, sort_keys=True, default=str).encode())
    digest.update(contents.tobytes())
    for name in _frozen_modules(task.network):
        for tensor in task.network.get_submodule(name).state_dict().values():
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return digest.hexdigest()
