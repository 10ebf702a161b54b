"""What describes the pictures where no network of the run's own does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from src.build.network import build_network, network_arguments
from src.build.objects import get_object, input_of
from src.build.task import load_task
from src.config.checks import to_plain
from src.config.features import EmbeddingSettings, HandcraftedSettings
from src.config.models import ZooSettings
from src.config.schema import RunSettings
from src.data.datamodule import PictureData
from src.data.splits import Split
from src.run_folder import RunFolder

if TYPE_CHECKING:  # scikit-image takes a moment, and networks need none of it
    from src.features.fusion import Extractor

__all__ = ["build_extractors"]


def build_extractors(settings: RunSettings, data: PictureData) -> tuple[Extractor, ...]:
    """What describes the pictures: hand-crafted descriptors, or a frozen network.

    Raises:
        ConfigError: there is no such network, it takes other pictures, or it has seen some that it
            would be judged by.
    """
    model = settings.model
    make = get_object(model._target_)
    if isinstance(model, HandcraftedSettings):
        with input_of("model"):
            return tuple(make(model.features, to_plain(model)))
    if not isinstance(model, EmbeddingSettings):
        raise TypeError(f"{model.name} has no features")
    network, passport = _own_network(model, settings, data) if model.run else _zoo(model, data)
    gpu = settings.trainer.accelerator != "cpu" and torch.cuda.is_available()
    return (make(network, passport, torch.device("cuda" if gpu else "cpu")),)


def _zoo(model: EmbeddingSettings, data: PictureData) -> tuple[nn.Module, dict[str, Any]]:
    pictures = data.pictures
    zoo = ZooSettings(
        _target_="src.models.zoo.TimmNet",
        name=model.network,
        pretrained=model.pretrained,
        freeze_epochs=0,
        backbone_lr_scale=1.0,
        layer_decay=1.0,
        head_start="random",
        freeze_norm=False,
        frozen_stages=0,
        stored_views=0,
        input_size=model.input_size,
        stem="keep",
        drop_rate=0.0,
    )
    classes = len(pictures.class_names)
    network = build_network(
        zoo, channels=pictures.channels, classes=classes, image_size=pictures.image_size
    )
    mean, std = getattr(network, "input_statistics", None) or (data.mean, data.std)
    return network, {
        "target": zoo._target_,
        "arguments": network_arguments(zoo.without_weights()),
        "channels": pictures.channels,
        "classes": classes,
        "image_size": list(pictures.image_size),
        "mean": list(mean),
        "std": list(std),
    }


def _own_network(
    model: EmbeddingSettings, settings: RunSettings, data: PictureData
) -> tuple[nn.Module, dict[str, Any]]:
    """The network of an earlier run, which must not know the pictures it will be judged by."""
    with input_of("model.run"):
        folder = RunFolder.find(str(model.run), Path(settings.output_dir))
        task = load_task(folder.chosen_checkpoint())
        passport, pictures = task.passport, data.pictures
        takes = (passport["channels"], *passport["image_size"])
        if takes != (pictures.channels, *pictures.image_size):
            raise ValueError(
                f"{folder.name} takes pictures of {takes[1]}x{takes[2]}x{takes[0]}: say "
                f"data.image_size=[{takes[1]},{takes[2]}] data.channels={takes[0]}"
            )
        earlier = Split.read(folder.split)
        seen = earlier.content_hashes[np.concatenate([earlier.train, earlier.val])]
        judged = np.concatenate([data.split.val, data.split.test])
        known = int(np.isin(pictures.content_hashes[judged], seen).sum())
        if passport["split_fingerprint"] != data.split.fingerprint and known:
            raise ValueError(
                f"{folder.name} was trained or chosen with {known} of the pictures that are "
                "validated or tested on here: split both alike (data.split_seed and fractions)"
            )
    return task.evaluated, {
        **passport["network"],
        "channels": passport["channels"],
        "classes": len(passport["class_names"]),
        "image_size": passport["image_size"],
        "mean": passport["mean"],
        "std": passport["std"],
    }
