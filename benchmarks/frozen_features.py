"""Features of a frozen network: the project's own path against bare loops over timm's network.

The same pictures, the same weights, turn by turn: the project's extractor, timm's network in the
number format and layout that are fastest here, and timm's network as PyTorch computes by default.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch

from benchmarks.table import Row, spread
from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.features.embedding import NetworkFeatures
from src.models.arithmetic import AUTOCAST, MEMORY_FORMATS
from src.runs.build import build_data, build_extractors

__all__ = ["measure"]

_NETWORK, _SIDE = "tf_efficientnet_lite0", 224
_PICTURES, _BATCH, _ROUNDS = 128, 32, 5


def measure() -> list[Row]:
    """Ratios of images a second, over interleaved rounds."""
    images = np.random.default_rng(0).integers(0, 256, (_PICTURES, 3, _SIDE, _SIDE), np.uint8)
    own = _own()
    plan = own.metadata["precision"], own.metadata["memory_format"]
    network = timm.create_model(_NETWORK, num_classes=0).eval()
    fastest = _bare(network, images, *plan)
    usual = _bare(network, images, "float32", "contiguous")
    ways: list[Callable[[], object]] = [lambda: own(images), fastest, usual]
    for way in ways:
        way()
    seconds = [[_timed(way) for way in ways] for _ in range(_ROUNDS)]
    against_fastest = [row[1] / row[0] for row in seconds]
    against_usual = [row[2] / row[0] for row in seconds]
    return [
        Row(
            f"features of {_NETWORK} at {_SIDE} pixels against a bare timm loop in "
            f"{plan[0]}, {plan[1]}",
            spread(against_fastest),
            "0.95x",
            sorted(against_fastest)[_ROUNDS // 2] >= 0.95,
        ),
        Row(
            "the same against a bare timm loop with PyTorch's defaults",
            spread(against_usual),
            "2x",
            sorted(against_usual)[_ROUNDS // 2] >= 2,
        ),
    ]


def _own() -> NetworkFeatures:
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            f"data.cache_dir={Path(folder)}",
            f"data.image_size={_SIDE}",
            "data.channels=3",
        ]
        overrides += ["model=embedding", f"model.networks=[{_NETWORK}]"]
        settings = compose_settings(RunSettings, overrides)
        (extractor,) = build_extractors(settings, build_data(settings))
    assert isinstance(extractor, NetworkFeatures)
    return extractor


def _bare(
    network: torch.nn.Module, images: np.ndarray, precision: str, memory_format: str
) -> Callable[[], object]:
    layout, dtype = MEMORY_FORMATS[memory_format], AUTOCAST[precision]
    laid = timm.create_model(_NETWORK, num_classes=0).eval()
    laid.load_state_dict(network.state_dict())
    laid = laid.to(memory_format=layout)

    def loop() -> object:
        found = []
        with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            for at in range(0, len(images), _BATCH):
                pixels = torch.from_numpy(images[at : at + _BATCH]).float().div_(255)
                found.append(laid(pixels.sub_(0.5).div_(0.5).contiguous(memory_format=layout)))
        return found

    return loop


def _timed(way: Callable[[], object]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started
