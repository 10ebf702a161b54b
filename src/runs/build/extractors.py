"""Extractors of features, for runs without a network of their own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...config.checks import input_of, to_plain
from ...config.features import DESCRIPTORS, EmbeddingSettings, HandcraftedSettings
from ...config.models import ZooSettings
from ...config.schema import RunSettings
from ...data.decoding.picture_format import PictureFormat
from ...data.loading.picture_data import PictureData
from ...data.splitting.splits import Split
from ...machine.hardware import device_of
from ...machine.imports import import_object
from ...models.weights import find_weights
from ...serving.predictor import kind_in
from ...storage.cache import cache_folder
from ...training.inference_plan import inference_plan
from ..earlier_runs import (
    known_training_pictures,
    network_run,
    refuse_judged,
    refuse_judged_by_weights,
)
from ..folder import trained_run
from .network import NetworkShape, build_network, rebuild_arguments
from .task import load_task

if TYPE_CHECKING:  # scikit-image takes a moment, and networks need none of it
    from ...features.feature_table import FeatureTable
    from ...features.fusion import Extractor

__all__ = [
    "build_extractors",
    "feature_table",
    "foreign_descriptors",
    "frozen_network",
    "remark_on_network",
]

# To make a network and to read its weights takes about a second, and a warm worker meets the same
# networks in every trial of a family. Those that were used last stay, up to so many bytes.
_KEPT_BYTES = 500e6
_kept: OrderedDict[tuple[Any, ...], tuple[Extractor, int]] = OrderedDict()


def build_extractors(settings: RunSettings, data: PictureData) -> tuple[Extractor, ...]:
    """Build what describes the pictures: hand-crafted descriptors, or a frozen network.

    Raises:
        ConfigError: there is no such network, it takes other pictures, or it has seen some that it
            would be judged by.
    """
    model = settings.model
    make = import_object(model._target_)
    if isinstance(model, HandcraftedSettings):
        with input_of("model"):
            return tuple(make(model.features, to_plain(model), foreign_descriptors(model)))
    if not isinstance(model, EmbeddingSettings):
        raise TypeError(f"{model.name} has no features")
    if model.run is None:
        refuse_judged_by_weights(settings, data)
        form = data.pictures.format
        return tuple(frozen_network(settings, name, data, form) for name in model.networks)
    device = device_of(settings.trainer.accelerator)
    network, metadata = _own_network(model, settings, data)
    plan = _plan(network, data.pictures.format, device, settings)
    return (make(network, metadata | plan, device),)


def remark_on_network(settings: RunSettings, data: PictureData) -> str | None:
    """Return a remark if the network of an earlier run has learnt from pictures that train here.

    It separates them better than new ones, so that no fold of them shows how often a classifier on
    its features is wrong.
    """
    model = settings.model
    if not isinstance(model, EmbeddingSettings) or model.run is None:
        return None
    with input_of("model.run"):
        folder = network_run(settings)
    assert folder is not None, "it is named"
    known = known_training_pictures(folder, data.split)
    if not known:
        return None
    return (
        f"model.run: {folder.name} was trained on {known:,} of these {len(data.split.train):,} "
        "training pictures, which its features separate better than new ones: probabilities of "
        "this run are too high, and its classifier is chosen by pictures that are too easy"
    )


def feature_table(
    settings: RunSettings,
    data: PictureData,
    extractors: Sequence[Extractor],
    deadline: float | None = None,
    split: Split | None = None,
) -> FeatureTable:
    """Return the cached features of a run's pictures, computed when a part is first read.

    Args:
        settings, data: of the run.
        extractors: whose features stand one after another.
        deadline: see `FeatureTable`.
        split: the part of each picture; None for that of `data`.
    """
    from ...features.feature_table import FeatureTable

    return FeatureTable(
        data.pictures,
        split or data.split,
        extractors,
        cache_dir=cache_folder(settings.data.cache_dir).absolute(),
        cache_limit_bytes=settings.data.cache_limit_bytes,
        workers=settings.data.worker_count,
        deadline=deadline,
    )


def foreign_descriptors(model: HandcraftedSettings) -> dict[str, str]:
    """Return the import paths of the descriptors in use that plugins bring, by name."""
    targets = {name: DESCRIPTORS[name] for name in model.features}
    return {name: target for name, target in targets.items() if target is not None}


def frozen_network(
    settings: RunSettings, name: str, data: PictureData, wanted: PictureFormat
) -> Extractor:
    """Return the features of one published network of timm, the same object for the same arguments.

    Args:
        settings: of the run, its model one of `EmbeddingSettings`.
        wanted: the format in which the pictures will be given.

    Raises:
        ConfigError: there is no such network, or its weights cannot be had.
    """
    model = settings.model
    assert isinstance(model, EmbeddingSettings)
    device = device_of(settings.trainer.accelerator)
    found = find_weights("timm", name) if model.pretrained else None
    state = None if found is None else found.file.stat()
    key = (  # what two calls must have in common to get the same network
        *(name, model._target_, model.pretrained, model.input_size, wanted),
        *(len(data.pictures.class_names), device, settings.data.cache_dir),
        state and (str(found), state.st_ino, state.st_size, state.st_mtime_ns),
    )
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key][0]
    network, metadata = _zoo(model, name, data, wanted)
    extractor: Extractor = import_object(model._target_)(
        network, metadata | _plan(network, wanted, device, settings), device
    )
    # Without statistics of their own, they are normalised by what these pictures are like.
    own = getattr(network, "input_statistics", None) is not None and wanted.ordinary
    if state is not None and own:
        # The network as it was made, and once more as it computes fastest.
        size = 2 * sum(one.numel() * one.element_size() for one in network.parameters())
        _kept[key] = (extractor, size)
        while sum(count for _, count in _kept.values()) > _KEPT_BYTES:
            _kept.popitem(last=False)
    return extractor


def _plan(
    network: nn.Module, form: PictureFormat, device: torch.device, settings: RunSettings
) -> dict[str, str]:
    """Return how the network computes fastest here; its features are kept apart by precision."""
    shape = (form.channels, *form.image_size)
    plan = inference_plan(
        network.eval().to(device), shape, device, cache_dir=settings.data.cache_dir
    )
    # The few bits of half precision would round away what pixels of more than 8 bits have.
    precision = plan.precision if form.dtype == "uint8" else "float32"
    return {"precision": precision, "memory_format": plan.memory_format}


def _zoo(
    model: EmbeddingSettings, name: str, data: PictureData, wanted: PictureFormat
) -> tuple[nn.Module, dict[str, Any]]:
    zoo = ZooSettings(
        _target_="src.models.zoo.TimmNet",
        name=name,
        pretrained=model.pretrained,
        input_size=model.input_size,
        stem="keep",
    )
    classes = len(data.pictures.class_names)
    network = build_network(zoo, NetworkShape(wanted.channels, classes, wanted.image_size))
    mean, std = data.normalization(network)
    return network, {
        "target": zoo._target_,
        "arguments": rebuild_arguments(zoo, network),
        **wanted.plain(),
        "classes": classes,
        "mean": list(mean),
        "std": list(std),
    }


def _own_network(
    model: EmbeddingSettings, settings: RunSettings, data: PictureData
) -> tuple[nn.Module, dict[str, Any]]:
    """Return the network of an earlier run, which must not know the pictures it is judged by."""
    with input_of("model.run"):
        folder, checkpoint = trained_run(str(model.run), Path(settings.output_dir))
        if checkpoint.suffix != ".ckpt":
            raise ValueError(
                f"{folder.name} is no single network, and features are taken of a network alone: "
                "name the run of one"
            )
        task = load_task(checkpoint)
        metadata, pictures = task.metadata, data.pictures
        if kind_in(metadata).pixels:
            raise ValueError(
                f"{folder.name} gives every pixel a class, and has no features of whole pictures: "
                "name a run of another data.target"
            )
        takes = (metadata["channels"], *metadata["image_size"])
        if takes != (pictures.channels, *pictures.image_size):
            raise ValueError(
                f"{folder.name} takes pictures of {takes[1]}x{takes[2]}x{takes[0]}: set "
                f"data.image_size=[{takes[1]},{takes[2]}] data.channels={takes[0]}"
            )
        refuse_judged(folder, data)
    return task.evaluated, {
        **metadata["network"],
        "channels": metadata["channels"],
        "classes": len(metadata["class_names"]),
        "image_size": metadata["image_size"],
        "mean": metadata["mean"],
        "std": metadata["std"],
    }
