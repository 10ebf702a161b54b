"""Choices of a classifier on features, cached on disk by the digest of their inputs."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray

from src.config.features import ClassicalSettings
from src.features.descriptors.picture import Floats
from src.features.grid import head_groups
from src.features.heads import Choice, choose_head
from src.storage.cache import Record, load_record, store_record

__all__ = ["kept_choice"]

_KIND = "heads"


def kept_choice(
    settings: ClassicalSettings,
    features: Floats,
    targets: NDArray[np.int64],
    contents: NDArray[np.generic],
    sizes: Sequence[int],
    *,
    seed: int,
    cache_dir: str | None,
) -> Choice:
    """Return the best head for features, searched for once for the same features and labels.

    A search that its limit of time has cut short is not kept: another may find more.

    The arguments are those of `src.features.heads.choose_head`; `cache_dir` is that of
    `src.storage.cache.cache_folder`.
    """
    _, labels = np.unique(targets, return_inverse=True)
    groups = head_groups(*features.shape)
    known: dict[str, Any] = {
        "features": _digest(features),
        "labels": _digest(labels),
        "contents": _digest(np.unique(contents, return_inverse=True)[1]),
        "sizes": list(sizes),
        "heads": [repr(head) for group in groups for head in group.heads],
        "folds": settings.calibration_folds,
        "seed": seed,
        "libraries": [np.__version__, sklearn.__version__],
    }
    kept = load_record(_KIND, known, cache_dir)
    if kept is not None:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return Choice.from_plain(kept.found)
    choice = choose_head(
        features,
        labels,
        contents,
        sizes,
        folds=settings.calibration_folds,
        seed=seed,
        seconds=settings.auto.seconds,
        groups=groups,
    )
    if choice.complete:
        store_record(_KIND, known, Record(choice.plain(), disturbed=False), cache_dir)
    return choice


def _digest(values: NDArray[Any]) -> str:
    rows = np.ascontiguousarray(values)
    found = hashlib.blake2b(f"{rows.dtype} {rows.shape}".encode(), digest_size=16)
    found.update(rows.view(np.uint8).reshape(-1).data)
    return found.hexdigest()
