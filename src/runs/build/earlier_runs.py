"""Pictures that an earlier run has learnt from, where a new one begins with its network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...config.checks import input_of
from ...config.features import EmbeddingSettings
from ...config.models import NetworkSettings
from ...config.schema import RunSettings
from ...data.loading.datamodule import PictureData
from ...data.splitting.splits import Split
from ..folder import RunFolder

__all__ = ["refuse_judged", "refuse_judged_by_weights"]


def refuse_judged(folder: RunFolder, data: PictureData) -> None:
    """Refuse a network that knows pictures that it would be judged by.

    Args:
        folder: of the run that trained it.
        data: of the new run.

    Raises:
        ValueError: the run was trained or chosen with some that are validated or tested on here.
    """
    earlier, split = Split.read(folder.split), data.split
    # By the same validation pictures both may be chosen.
    pairs = ((split.val, (earlier.train,)), (split.test, (earlier.train, earlier.val)))
    known = sum(
        int(np.isin(split.content_hashes[own], earlier.content_hashes[np.concatenate(seen)]).sum())
        for own, seen in pairs
    )
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
    model = settings.model
    given = model.pretrained if isinstance(model, NetworkSettings | EmbeddingSettings) else None
    if not (isinstance(given, str) and (file := Path(given)).is_file()):
        return
    try:
        folder = RunFolder.open(file.resolve().parent.parent)
    except ValueError:  # they come from elsewhere
        return
    if folder.split.is_file():
        with input_of("model.pretrained"):
            refuse_judged(folder, data)
