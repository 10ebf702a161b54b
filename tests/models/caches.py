"""Caches as the libraries leave them, with networks that a test made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save
from torch import Tensor

REVISION = "0123456789abcdef0123456789abcdef01234567"


def use_empty_caches(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make both libraries look below `folder`, where nothing is yet."""
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    patch.setenv("TORCH_HOME", str(folder / "torch"))


def in_hub_cache(repository: str, content: Mapping[str, Tensor] | bytes) -> Path:
    """The file of a repository of the hub, as its client would have left it."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    file = folder / "snapshots" / REVISION / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(content if isinstance(content, bytes) else save(dict(content)))
    return file


def in_torch_cache(name: str, content: Any) -> Path:
    """A file that torch.hub would have fetched."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, file)
    return file


def timm_network(name: str, seed: int = 1) -> torch.nn.Module:
    """A network of timm as it is published, but for its drawn weights."""
    import timm

    torch.manual_seed(seed)
    network: torch.nn.Module = timm.create_model(name).eval()
    return network
