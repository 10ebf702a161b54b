"""The values that a network's training begins with, beside the weights that were loaded."""

from __future__ import annotations

import copy
import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from ...config.checks import ConfigError
from ...config.schema import RunSettings
from ...data.loading.picture_data import PictureData
from ...data.splitting.folds import training_seed
from ...features.calibration import folds_of, is_enough
from ...features.embedding import NetworkFeatures
from ...machine.arrays import Int64Array
from ...metrics.summary import metric_key, metric_name
from ...reporting.formatting import metric_text
from ...targets import kind_of
from ...targets.labels import label_codes
from ...training.linear_head import FittedHead, final_linear, fit_linear_head, put_head
from ...training.links import kept_probabilities, link_of, outputs_of
from ...training.losses import weights_of
from .data import fold_codes
from .extractors import feature_table
from .network import network_of

if TYPE_CHECKING:  # scikit-image and Lightning take a moment to import, and not all runs need them
    from ...features.feature_table import FeatureTable
    from ...training.task import ClassificationTask

__all__ = ["refuse_fitted_head", "start_head", "start_network"]

# Of the search for the penalty of a fitted head.
_FOLDS = 3


@runtime_checkable
class _StartsFromPictures(Protocol):
    """A network some of whose weights are set by training pictures, once before its training."""

    def start_from(self, images: Tensor) -> None: ...


def start_network(
    task: ClassificationTask,
    settings: RunSettings,
    data: PictureData,
    device: torch.device,
    *,
    head: bool = True,
) -> None:
    """Set what the training pictures determine before the first step of a new training.

    Args:
        task: untrained, on the CPU.
        device: where features are computed.
        head: whether the head is fitted, where the settings have it so.
    """
    if head:
        start_head(task, settings, data, device)
    # A file's weights have been trained with what its own pictures set.
    if not network_of(settings).pretrained and isinstance(task.network, _StartsFromPictures):
        batch = next(iter(data.batches("train", training=True)))
        task.network.start_from(task.normalized(batch.images.to(task.device)))


def _fitted_layer(
    task: ClassificationTask, settings: RunSettings, data: PictureData
) -> nn.Linear | None:
    """Return the layer of an untrained network that training begins with fitted; None for none."""
    model = network_of(settings)
    if not model.pretrained or model.head_start == "random":
        return None
    channels, size = data.pictures.channels, data.pictures.image_size
    blank = torch.full((2, channels, *size), 128, dtype=torch.uint8)
    return final_linear(task.network, task.normalized(blank))


def refuse_fitted_head(task: ClassificationTask, settings: RunSettings, data: PictureData) -> None:
    """Raise a ConfigError where training begins from a fitted head: a range test finds no rate."""
    if _fitted_layer(task, settings, data) is not None:
        raise ConfigError(
            "find_lr: training begins from a fitted head, near its lowest loss, and a range test "
            "needs one that falls: give optimizer.lr, or set model.head_start=random."
        )


def start_head(
    task: ClassificationTask, settings: RunSettings, data: PictureData, device: torch.device
) -> FittedHead | None:
    """Fit a linear head to the features of a network's pretrained weights, and put it in place.

    The features are those of the training part, not augmented, in the run's own precision; they
    are cached. The head of the untrained task's network, and that of its average, are changed.

    Returns:
        The head; None where the network's own is left unchanged, as the settings have it so, or
        as it is not a single linear layer.
    """
    layer = _fitted_layer(task, settings, data)
    if layer is None:
        model = network_of(settings)
        if (
            model.pretrained
            and model.head_start == "fitted"
            and not kind_of(settings.data.target).pixels
        ):
            print("head: not fitted, for it is not a single linear layer on pooled features")
        return None
    started = time.perf_counter()
    table = _features(task, settings, data, device)
    features = torch.from_numpy(table.part("train"))
    indices = data.split.train
    targets = data.pictures.targets[indices]
    seed = training_seed(settings.seed, settings.cv.fold)
    folds: list[tuple[Tensor, Tensor]] = []
    labels, seen = label_codes(targets), list[Int64Array]()
    contents = fold_codes(data, indices, labels)
    for fitted, held_out in folds_of(labels, contents, _FOLDS, seed):
        folds.append((torch.from_numpy(fitted), torch.from_numpy(held_out)))
        seen.append(labels[held_out])
        if is_enough(seen, len(np.unique(labels))):
            break
    counts, link = torch.as_tensor(data.class_counts), link_of(task.metadata)
    head = fit_linear_head(
        features,
        torch.from_numpy(targets),
        num_classes=len(data.pictures.class_names),
        folds=folds,
        class_weights=weights_of(settings.loss.class_weights, counts),
        corn=link == "corn",
    )
    put_head(task, layer, head)
    print(
        f"head: logistic regression on {features.shape[1]:,} features of {len(indices):,} "
        f"pictures (penalty {head.penalty:.3g}), {time.perf_counter() - started:.0f} s; "
        f"{_accuracy(head, table, data, link)}"
    )
    return head


def _accuracy(head: FittedHead, table: FeatureTable, data: PictureData, link: str) -> str:
    """Describe the accuracy of the head before the training."""
    if not len(data.split.val):  # its pictures train
        return f"accuracy {100 * head.held_out_accuracy:.1f} % on held-out folds"
    logits = head(torch.from_numpy(table.part("val")))
    kind, targets = kind_of(data.pictures.kind), data.pictures.targets[data.split.val]
    probs = kept_probabilities(logits, link)
    value = kind.evaluate(probs, targets, data.pictures.class_names)[kind.primary]
    key = metric_key("val", kind.primary)
    return f"{metric_name(key)} {metric_text(key, value)}"


def _features(
    task: ClassificationTask, settings: RunSettings, data: PictureData, device: torch.device
) -> FeatureTable:
    """Return the input of the network's head for each picture."""
    metadata = task.metadata
    described = metadata["network"] | {
        **data.pictures.format.plain(),
        "classes": outputs_of(link_of(metadata), len(metadata["class_names"])),
        "mean": metadata["mean"],
        "std": metadata["std"],
        "precision": settings.runtime.precision,
        "memory_format": settings.runtime.memory_format,
    }
    extractor = NetworkFeatures(copy.deepcopy(task.network), described, device)
    return feature_table(settings, data, [extractor])
