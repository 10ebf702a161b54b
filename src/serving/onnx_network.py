"""An ONNX file as what turns pictures into logits; needs no torch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.serving.exported import Logits

__all__ = ["INPUT", "OUTPUT", "open_onnx"]

INPUT, OUTPUT = "images", "logits"


def open_onnx(file: Path, threads: int | None = None) -> Logits:
    """The network of a file; an ONNX graph is data, and onnxruntime's own operations compute it.

    Args:
        file: with pictures `images` and `logits`; it may refer to no other file.
        threads: at most; None for OMP_NUM_THREADS, or else what onnxruntime takes for the machine.

    Raises:
        ValueError: the file is missing or damaged, or holds another kind of network.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("onnxruntime is not installed: make install EXTRAS=export") from None

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    said = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(said) if said.isdigit() else 0)
    try:
        # From its bytes, so that it cannot have weights read from elsewhere.
        session = onnxruntime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        names = [x.name for x in (*session.get_inputs(), *session.get_outputs())]
        if names != [INPUT, OUTPUT]:
            raise ValueError(f"it goes from {names[0]} to {names[-1]}")
    except Exception as error:  # onnxruntime has a dozen of its own
        raise ValueError(f"{file} holds no network that can be loaded: {error}") from error

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = session.run([OUTPUT], {INPUT: images})[0]
        return found

    return logits
