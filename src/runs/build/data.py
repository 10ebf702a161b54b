"""The pictures of a run, listed, decoded and divided."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...config.checks import input_of, to_plain
from ...config.features import EmbeddingSettings
from ...config.models import ModelSettings, ZooSettings
from ...config.schema import RunSettings
from ...data.decoding.format_choice import chosen_size
from ...data.loading.picture_data import PictureData
from ...data.sources.costs import CostTable
from ...data.sources.listing import list_pictures
from ...data.sources.roots import root_beside
from ...data.splitting.folds import training_seed
from ...data.splitting.splits import Split
from ...features.calibration import held_together
from ...machine.arrays import Float64Array, Int64Array, IntegerArray
from ...models.weights import native_size

__all__ = [
    "COMPARED_SIDE",
    "build_data",
    "build_fold",
    "costs_of",
    "first_batch_size",
    "model_metadata",
    "native_side",
    "remark_on_size",
    "stated_batch_size",
]

# Until `data.batch_size=auto` has been measured (src/runs/resolve.py).
_PROVISIONAL_BATCH = 128
# Pixels of a side that pictures are compared at (src/data/quality/suspects.py).
COMPARED_SIDE = 32


def build_data(settings: RunSettings, manifest: Path | None = None) -> PictureData:
    """List, decode and split the pictures, at the size that suits the run's model.

    Where frozen networks describe at most half of them, which they do once, no picture is decoded
    at that size before it is read.

    Args:
        settings: of the run.
        manifest: the split.csv of an earlier run of these settings. Its parts are kept, also where
            another version of this program would divide the pictures otherwise.

    Raises:
        ConfigError: the pictures are not there, not readable, or too few for the parts.
    """
    with input_of("data"):
        source, side = list_pictures(settings.data), native_side(settings.model)
        # A cross-validation limits what trains in each fold, and holds out all pictures.
        folded = settings.cv.folds is not None
        wanted = replace(settings.data, train_limit=None) if folded else settings.data
        few = side is not None and _uses_few(settings, len(source))
        opened = PictureData.open(
            source,
            wanted,
            native_side=COMPARED_SIDE if few else side,
            batch_size=first_batch_size(settings),
            seed=settings.seed,
            before=_split_before(settings, manifest),
            folds=settings.cv.folds,
        )
    if few:
        sizes = opened.pictures.original_sizes
        size = chosen_size(sizes, settings.data.image_size, side)
        opened = opened if size == opened.pictures.image_size else opened.undecoded(size)
    return opened if settings.cv.fold is None else build_fold(settings, opened)


def _split_before(settings: RunSettings, manifest: Path | None) -> Split | None:
    """Return the split of a manifest; None where it is not that of all pictures, or unreadable."""
    of_some = settings.cv.folds is not None or settings.data.train_limit is not None
    if manifest is None or of_some:
        return None
    try:
        return Split.read(manifest)
    except (OSError, ValueError):  # said where the run's parts are compared with these
        return None


def costs_of(settings: RunSettings, data: PictureData) -> Float64Array | None:
    """Return the (K, K) costs of predictions that the settings name; None where they name none.

    A relative file of a run that goes on is looked for beside its folder of outputs as well.

    Raises:
        ConfigError: it is no table of costs, or its classes are not those of the pictures.
    """
    if settings.costs is None:
        return None
    beside = Path(settings.output_dir).absolute().parent
    file = Path(root_beside(settings.costs, beside) or settings.costs)
    return CostTable.read(file).of(tuple(data.pictures.class_names))


def _uses_few(settings: RunSettings, count: int) -> bool:
    """Return whether frozen networks learn from at most half of so many pictures."""
    frozen = isinstance(settings.model, EmbeddingSettings) and settings.model.run is None
    limits = (settings.data.limit, settings.data.train_limit)
    return frozen and min(limit or math.inf for limit in limits) <= count / 2


def native_side(model: ModelSettings) -> int | None:
    """Return the side in pixels of the square that a model was made for; None for any size.

    Raises:
        ConfigError: no published network has the name.
    """
    with input_of("model"):
        if isinstance(model, ZooSettings):
            library = "timm" if model._target_.endswith("TimmNet") else "torchvision"
            known = native_size(library, model.name) if model.pretrained else None
            return model.input_size or known
        if isinstance(model, EmbeddingSettings) and model.run is None:
            sides = [native_size("timm", name) for name in model.networks]
            return model.input_size or max(side or 0 for side in sides) or None
    return None


def remark_on_size(settings: RunSettings, data: PictureData) -> str | None:
    """Return a remark if a network resizes pictures of a stated `data.image_size`, else None.

    Published weights have a picture size of their own. There is no remark if the original pictures
    are no larger than the stated size, since small pictures gain by being enlarged to that of the
    weights; pictures that were reduced first have lost detail.
    """
    model, size = settings.model, data.pictures.image_size
    stated = settings.data.image_size is not None
    if not stated or not isinstance(model, ZooSettings | EmbeddingSettings):
        return None
    side = native_side(model)
    if side is None or model.input_size is not None or (side, side) == size:
        return None
    larger = side * side > size[0] * size[1]
    if larger and min(size) >= np.median(data.pictures.original_sizes.min(axis=1)):
        return None
    made = "enlarged" if larger else "reduced"
    return (
        f"pictures of data.image_size, {size[0]}x{size[1]}, are {made} within the network to the "
        f"{side}x{side} of its weights: leave data.image_size out, or set "
        f"model.input_size={max(size)} for a network that computes on the stated size"
    )


def model_metadata(settings: RunSettings, data: PictureData) -> dict[str, Any]:
    """Return what the metadata of every trained model has, in plain containers."""
    return {
        # A run that was interrupted ends as the same model as one that was not.
        "settings": to_plain(settings) | {"resume": None},
        "class_names": list(data.pictures.class_names),
        **data.pictures.format.plain(),
        "split_fingerprint": data.split.fingerprint,
    }


def build_fold(settings: RunSettings, data: PictureData) -> PictureData:
    """Return the pictures divided for the one fold that the settings name.

    Raises:
        ConfigError: a class has fewer pictures than there are folds.
    """
    cv = settings.cv
    if cv.folds is None or cv.fold is None:
        raise TypeError("the settings name no fold")
    with input_of("cv.folds"):
        seed = training_seed(settings.seed, cv.fold)
        held_out = data.fold(
            cv.fold,
            cv.folds,
            split_seed=settings.data.split_seed,
            seed=seed,
            train_limit=settings.data.train_limit,
        )
    held_out.batch_size = first_batch_size(settings)
    return held_out


def fold_codes(data: PictureData, ids: Int64Array, labels: IntegerArray) -> Int64Array:
    """Return (N,) codes that are equal for those of some pictures that have to share a fold.

    Args:
        data: all pictures.
        ids: (N,) of those in question, some perhaps more than once.
        labels: (N,) or (N, K) of these, as of `src.features.calibration.held_together`.
    """
    groups = None if data.groups is None else data.groups[ids]
    return held_together(labels, groups, data.pictures.content_hashes[ids])


def first_batch_size(settings: RunSettings) -> int:
    """Pictures a step; while `data.batch_size=auto` waits to be measured, a provisional number."""
    size = settings.data.batch_size
    return size if isinstance(size, int) else _PROVISIONAL_BATCH


def stated_batch_size(settings: RunSettings) -> int | None:
    """Pictures a step; None while it is not measured, and for models that take no steps."""
    size = settings.data.batch_size
    return size if isinstance(size, int) and not settings.is_idle("data.batch_size") else None
