"""Pictures that an earlier run has learnt from, where a new one builds on its network."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config.checks import input_of
from ..config.features import EmbeddingSettings
from ..config.models import NetworkSettings
from ..config.schema import RunSettings
from ..data.splitting.splits import Split
from ..machine.arrays import Int64Array
from .folder import RunFolder

if TYPE_CHECKING:  # torch, which mistakes in settings do not wait for
    from ..data.loading.picture_data import PictureData

__all__ = ["known_training_pictures", "network_run", "refuse_judged", "refuse_judged_by_weights"]


def network_run(settings: RunSettings) -> RunFolder | None:
    """Return the run whose network another one builds on; None for none, or weights of elsewhere.

    Raises:
        ValueError: there is no run of the name in `model.run`.
    """
    model = settings.model
    if isinstance(model, EmbeddingSettings) and model.run is not None:
        return RunFolder.find(model.run, Path(settings.output_dir))
    weights = model.pretrained if isinstance(model, NetworkSettings | EmbeddingSettings) else None
    if isinstance(weights, str) and (file := Path(weights)).is_file():
        with suppress(ValueError):
            folder = RunFolder.open(file.resolve().parent.parent)
            return folder if folder.split.is_file() else None
    return None


def known_training_pictures(folder: RunFolder, split: Split) -> int:
    """Return how many training pictures of a split, by their content, trained a run."""
    return _shared(split, split.train, folder, "train")


def refuse_judged(folder: RunFolder, data: PictureData) -> None:
    """Refuse a network that knows pictures that it would be judged by.

    Args:
        folder: of the run that trained it.
        data: of the new run.

    Raises:
        ValueError: the run was trained or chosen with some that are validated or tested on here.
    """
    split = data.split
    known = _shared(split, split.test, folder, "train", "val")
    known += _shared(split, split.val, folder, "train")  # both may be chosen by the same ones
    if known:
        raise ValueError(
            f"{folder.name} was trained or chosen with {known} of the pictures that are "
            "validated or tested on here: split both alike (data.split_seed and fractions)"
        )


def refuse_judged_by_weights(settings: RunSettings, data: PictureData) -> None:
    """Refuse weights in the folder of an earlier run, as `refuse_judged` does.

    Raises:
        ConfigError: they know pictures that they would be judged by.
    """
    with input_of("model.pretrained"):
        if (folder := network_run(settings)) is not None:
            refuse_judged(folder, data)


def _shared(split: Split, indices: Int64Array, folder: RunFolder, *parts: str) -> int:
    earlier = Split.read(folder.split)
    seen = np.concatenate([getattr(earlier, part) for part in parts])
    return int(np.isin(split.content_hashes[indices], earlier.content_hashes[seen]).sum())
