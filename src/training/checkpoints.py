"""Checkpoint files that survive a kill and a full disk, and are read without running code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..machine.disk import refusal
from ..machine.failures import DiskRefuses, require_folder
from ..storage.digests import HashingWriter, zip_is_whole
from ..storage.files import replacing

__all__ = ["network_difference", "read_checkpoint", "write_checkpoint"]


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint, which replaces the one that was there only once it is complete.

    Args:
        checkpoint: tensors and plain containers.
        path: the file, in a folder of the run's folder.

    Raises:
        DiskRefuses: the disk does not take it, or the run's folder is gone.
    """
    require_folder(path.parents[1])
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            hashing = HashingWriter(file)
            _save(checkpoint, hashing)
            hashing.close_archive()
    except OSError as error:
        if (reason := refusal(error, path.parent, _size(checkpoint))) is None:
            raise
        raise DiskRefuses(reason) from error


def _save(checkpoint: dict[str, Any], file: HashingWriter) -> None:
    try:
        torch.save(checkpoint, file)  # type: ignore[arg-type]  # it only calls `write`
    except RuntimeError as error:
        # After a write has failed torch closes its archive, fails again, and hides the reason.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _size(value: Any) -> int:
    """Return the bytes of all tensors in plain containers."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return 0


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint; tensors and plain containers only, never code.

    Raises:
        ValueError: the file is missing, damaged, or holds anything else.
    """
    try:
        whole = zip_is_whole(path)
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from None
    if whole is False:
        raise ValueError(
            f"{path} is damaged: its content is not what was written; put a copy of it back, or "
            "train anew"
        )
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is damaged, or holds more than weights and plain values (it could run code), "
            "so it is not loaded"
        ) from None
    # What is no checkpoint is taken for a pickle, in which any byte may be an instruction.
    except Exception as error:
        if whole and isinstance(error, MemoryError):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = f"{type(error).__name__}{f': {lines[0]:.160}' if lines else ''}"
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({what}); put a copy of it back, or train anew"
        ) from None
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} is not a checkpoint of a run")
    return checkpoint


def network_difference(
    checkpoint: Mapping[str, Any], state: Mapping[str, torch.Tensor]
) -> str | None:
    """Return how the weights of a checkpoint differ from a network's state; None where they fit."""
    stored = checkpoint.get("state_dict")
    if not isinstance(stored, dict):
        return "it holds no weights"
    for name in sorted(stored.keys() | state.keys()):
        if name not in stored:
            return f"{name} is missing in it"
        if name not in state:
            return f"{name} is not part of the network"
        shapes = [tuple(getattr(found[name], "shape", ())) for found in (stored, state)]
        if shapes[0] != shapes[1]:
            return f"{name} has the shape {shapes[0]} in it and {shapes[1]} in the network"
    return None
