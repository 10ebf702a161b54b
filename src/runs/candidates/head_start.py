"""The classifier head that the training of a pretrained network starts from."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from src.config.schema import RunSettings
from src.data.loading.datamodule import PictureData
from src.data.splitting.folds import training_seed
from src.runs.build import feature_table
from src.training.linear_head import FittedHead, final_linear, fit_linear_head, put_head
from src.training.losses import balanced_weights
from src.training.task import ClassificationTask

if TYPE_CHECKING:  # scikit-image takes a moment to import, and not every training needs it
    from src.features.table import FeatureTable

__all__ = ["start_head"]

_FOLDS = 3
# Held-out pictures enough to choose the penalty: no further fold is fitted.
_ENOUGH_HELD_OUT = 5_000


def start_head(
    task: ClassificationTask, settings: RunSettings, data: PictureData, device: torch.device
) -> FittedHead | None:
    """Fit a linear head to the features of a network's pretrained weights, and put it in place.

    The features are those of the training part, not augmented, in the run's own precision; they are
    cached like those of any frozen network. A line on the result is printed.

    Args:
        task: untrained; its network's head, and that of its average, are changed.
        settings: of the run, without any `auto`.

    Returns:
        The head; None where the network's own is not a single linear layer and is left unchanged.
    """
    # scikit-learn, which divides the folds, takes seconds to import.
    from src.features.calibration import folds_of

    started = time.perf_counter()
    channels, size = data.pictures.channels, data.pictures.image_size
    blank = torch.full((2, channels, *size), 128, dtype=torch.uint8)
    layer = final_linear(task.network, task.normalized(blank))
    if layer is None:
        print("head: random, for it is not a single linear layer on pooled features")
        return None
    table = _features(task, settings, data, device)
    features = torch.from_numpy(table.part("train"))
    indices = data.split.train
    targets, contents = data.pictures.targets[indices], data.pictures.content_hashes[indices]
    seed = training_seed(settings.seed, settings.cv.fold)
    folds: list[tuple[Tensor, Tensor]] = []
    for fitted, held_out in folds_of(targets, contents, _FOLDS, seed):
        folds.append((torch.from_numpy(fitted), torch.from_numpy(held_out)))
        if sum(len(held) for _, held in folds) >= _ENOUGH_HELD_OUT:
            break
    balanced = settings.loss.class_weights == "balanced"
    head = fit_linear_head(
        features,
        torch.from_numpy(targets),
        num_classes=len(data.pictures.class_names),
        folds=folds,
        class_weights=balanced_weights(torch.as_tensor(data.class_counts)) if balanced else None,
    )
    put_head(task, layer, head)
    print(
        f"head: logistic regression on {features.shape[1]:,} features of {len(indices):,} "
        f"pictures (penalty {head.penalty:.3g}), {time.perf_counter() - started:.0f} s; "
        f"{_accuracy(head, table, data)}"
    )
    return head


def _accuracy(head: FittedHead, table: FeatureTable, data: PictureData) -> str:
    """Describe the accuracy of the head before the training."""
    if not len(data.split.val):  # its pictures train
        return f"accuracy {100 * head.held_out_accuracy:.1f} % on held-out folds"
    found = head(torch.from_numpy(table.part("val"))).argmax(dim=1).numpy()
    right = float((found == data.pictures.targets[data.split.val]).mean())
    return f"validation accuracy {100 * right:.1f} %"


def _features(
    task: ClassificationTask, settings: RunSettings, data: PictureData, device: torch.device
) -> FeatureTable:
    """Return the input of the network's head for each picture."""
    from src.features.embedding import NetworkFeatures

    passport = task.metadata
    described = passport["network"] | {
        **data.pictures.format.plain(),
        "classes": len(passport["class_names"]),
        "mean": passport["mean"],
        "std": passport["std"],
        "precision": settings.runtime.precision,
        "memory_format": settings.runtime.memory_format,
    }
    extractor = NetworkFeatures(copy.deepcopy(task.network), described, device)
    return feature_table(settings, data, [extractor])
