"""Pictures and labels from a NumPy file, as a data source."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from src.config.checks import ConfigError, variant
from src.config.data import DataSettings
from src.data.sources.source import Source

variant(DataSettings, "npz.load")(DataSettings)  # it needs no keys of its own


def load(root: Path | None, cache_dir: Path, download: bool) -> Source:
    """Return the arrays `images` (N, C, H, W) uint8 and `labels` (N,) of text of a .npz file."""
    if root is None:
        raise ConfigError("data.root is null: set data.root=FILE.npz.")
    with np.load(root, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    names, targets = np.unique(labels, return_inverse=True)
    return Source("npz", tuple(names.tolist()), targets.astype(np.int64), arrays=images)
