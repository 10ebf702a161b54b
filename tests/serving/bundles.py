"""Untrained networks with the metadata that a run would give them, and what calibrates them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from src.config.checks import to_plain
from src.config.compose import compose_settings
from src.config.models import NetworkSettings
from src.config.schema import RunSettings
from src.records.certainty import Certainty, FeatureSample
from src.serving.bundle_writing import write_bundle
from src.statistics.novelty import feature_rows, feature_scale, neighbour_distances
from src.targets import kind_of
from src.training.links import outputs_of
from tests.models.test_conformance import OF_LIBRARIES, build

CLASSES = ("0", "ä b", "c/d", 'e "f"')


def network_and_metadata(
    *overrides: str,
    model: str = "mlp",
    shape: tuple[int, int, int] = (3, 16, 24),
    seed: int = 0,
    link: str = "softmax",
) -> tuple[nn.Module, dict[str, Any]]:
    """What `python -m src.train model=MODEL OVERRIDES` would build for pictures of `shape`.

    Targets are of the kind that has the link.
    """
    target = {"softmax": "single", "sigmoid": "multi", "corn": "ordinal"}[link]
    loss = "corn" if link == "corn" else "cross_entropy"
    plainly = ["runtime=float32", "trainer.tta=none", f"data.target={target}", f"loss={loss}"]
    named = [f"model={model}", *OF_LIBRARIES.get(model, ())]
    settings = compose_settings(RunSettings, [*named, *plainly, *overrides])
    shared = {field.name for field in dataclasses.fields(NetworkSettings)}
    plain = to_plain(settings.model)
    arguments = {key: value for key, value in plain.items() if key not in shared}
    if model in ("timm", "torchvision"):
        arguments |= {"name": plain["name"], "pretrained": None}
    metadata = {
        "settings": to_plain(settings),
        "network": {"target": plain["_target_"], "arguments": arguments},
        "class_names": list(CLASSES),
        "image_size": list(shape[1:]),
        "channels": shape[0],
        "mean": [0.4] * shape[0],
        "std": [0.3] * shape[0],
    }
    torch.manual_seed(seed)
    metadata["link"] = link
    if link == "sigmoid":
        metadata["thresholds"] = [0.2, 0.5, 0.55, 0.7]
    return build(model, shape, outputs_of(link, len(CLASSES)), *overrides).eval(), metadata


def bundle(folder: Path, **options: Any) -> str:
    """Write a small network's bundle; returns its digest."""
    network, metadata = network_and_metadata(**options)
    height, width = metadata["image_size"]
    example = np.full((metadata["channels"], height, width), 200, np.uint8)
    return write_bundle(folder, network, metadata, example)


def certainty_of(
    probs: np.ndarray, targets: np.ndarray, sample: FeatureSample | None = None
) -> Certainty:
    """What answers on pictures whose labels, (N,) or sets (N, K), are known say of a model."""
    several = targets.ndim == 2
    kind = kind_of("multi" if several else "single")
    return Certainty(
        source="test",
        refitted=False,
        candidates=1,
        pictures=len(probs),
        num_classes=probs.shape[1],
        targets=targets,
        label_probs=probs if several else probs[np.arange(len(probs)), targets],
        confidences=kind.confidences(probs),
        correct=kind.right(kind.decide(probs), targets),
        sample=sample,
    )


def feature_sample(known: np.ndarray, features: np.ndarray) -> FeatureSample:
    """Features of training pictures, and how far those of the calibration are from them."""
    scale = feature_scale(known)
    rows = feature_rows(known, scale).astype(np.float16)
    return FeatureSample(scale, rows, neighbour_distances(feature_rows(features, scale), rows))
