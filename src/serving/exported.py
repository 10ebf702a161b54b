"""An exported network out of its bundle, as what a predictor asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.serving.predictor import Classify

__all__ = ["ONNX_FILE", "PT2_FILE", "Logits", "classifier_of", "open_logits"]

# Decoded pictures (N, C, H, W) uint8, N at least 1 -> logits (N, K) float32, of the run's own
# normalisation and test-time augmentation.
Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

ONNX_FILE, PT2_FILE = "network.onnx", "network.pt2"


def open_logits(bundle: Path, threads: int | None = None) -> Logits | None:
    """The exported network of a bundle, on the CPU; None where it has none.

    Args:
        bundle: a folder.
        threads: that ONNX may use; None for OMP_NUM_THREADS, or else as many as suit the machine.
            Those of torch are the process's own.

    Raises:
        ValueError: its file is damaged.
    """
    if (bundle / ONNX_FILE).is_file():
        from src.serving.onnx_network import open_onnx

        return open_onnx(bundle / ONNX_FILE, threads)
    if (bundle / PT2_FILE).is_file():
        from src.serving.pt2_network import open_pt2

        return open_pt2(bundle / PT2_FILE)
    return None


def classifier_of(logits: Logits) -> Classify:
    """Probabilities (N, K) float32 from logits."""

    def classify(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raw = logits(images).astype(np.float64)
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        probs: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return probs

    return classify
