"""Exported models out of their files, as functions from pictures to logits.

A file gives logits and probabilities, and says what they are: an ONNX file in its metadata, a .pt2
archive in a part of its own. ONNX needs no torch, and a .pt2 file is read only if it holds nothing
but data.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..data.decoding.decode import PADDING_GREY, padded
from ..data.decoding.windows import mean_over_windows
from ..machine.arrays import AnyArray, Float32Array
from ..records.pictures import Pixels
from .predictor import Classify

# No usage report to the makers of onnxruntime, and no number of this user in the home folder by
# which they would tell reports apart. It counts when the library is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "INPUT",
    "ONNX_FILE",
    "OUTPUTS",
    "PT2_FILE",
    "PT2_NOTE",
    "Logits",
    "classifier_of",
    "linked",
    "open_logits",
    "open_onnx",
    "open_pt2",
    "pixel_classifier_of",
]

# Decoded pictures (N, C, H, W), N at least 1 -> logits (N, K) float32, with the run's own
# normalisation and test-time augmentation; of pixels (N, K, H, W), of windows of one size.
Logits = Callable[[Pixels], Float32Array]

ONNX_FILE, PT2_FILE = "network.onnx", "network.pt2"
# Names in the graph of an ONNX file.
INPUT, OUTPUTS = "images", ("logits", "probabilities")
# The part of a .pt2 archive that says what its outputs are.
PT2_NOTE = "outputs.json"

# The parts of a .pt2 archive, below its own folder, that are numbers or JSON.
_PARTS = re.compile(
    r"models/model\.json|data/(weights|constants)/(model_\w+_config\.json|(weight|tensor)_\d+)"
    r"|data/sample_inputs/model\.pt|archive_format|archive_version|version|byteorder"
    r"|\.data/(serialization_id|version)|\.format_version|\.storage_alignment"
    rf"|extra/{re.escape(PT2_NOTE)}"
)
_OPERATIONS = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.\w+|torch\.sym_\w+")
# Sizes such as 4*s0, as sympy writes them: it would evaluate anything else as Python.
_SIZE = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, \w+=True)*\)|(?:Integer|Rational|Add|Mul|Pow|Mod|Max|Min)\("
    r"|FloorDiv\(|[su]?\d+|[-+*/(), ])*"
)


def open_logits(file: Path, threads: int | None = None) -> Logits:
    """Return the exported network of a bundle's file, on the CPU.

    Raises:
        ValueError: the file is damaged.
    """
    return open_pt2(file) if file.name == PT2_FILE else open_onnx(file, threads)


def classifier_of(logits: Logits, link: str) -> Classify:
    """Return a function from pictures to probabilities (N, K) float32, by the link of `links`."""

    def classify(images: Pixels) -> Float32Array:
        return linked(logits(images), link)

    return classify


def pixel_classifier_of(logits: Logits, window: tuple[int, int]) -> Classify:
    """Return a function from pictures of any size to probabilities (N, K, H, W) float32.

    Args:
        logits: of pictures of the size of `window`. Smaller ones are filled up with grey, as in
            training, and larger ones are answered through overlapping windows.
        window: height and width.
    """
    on_window = classifier_of(logits, "softmax")

    def classify(images: Pixels) -> Float32Array:
        height, width = images.shape[2:]
        filled = padded(images, (max(height, window[0]), max(width, window[1])), PADDING_GREY)
        whole = filled.shape[2:] == tuple(window)
        probs = on_window(filled) if whole else mean_over_windows(on_window, filled, window)
        return probs[..., :height, :width]

    return classify


def linked(logits: Float32Array, link: str) -> Float32Array:
    """Return the probabilities of logits (N, M, ...), as `links.probabilities` does with torch.

    Raises:
        ValueError: there is no such link.
    """
    raw: AnyArray = logits if logits.ndim > 2 else logits.astype(np.float64)
    if link == "softmax":
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        found = powers / powers.sum(axis=1, keepdims=True)
    elif link == "sigmoid":
        found = np.exp(-np.logaddexp(0, -raw))
    elif link == "corn":
        above = np.exp(-np.logaddexp(0, -raw).cumsum(axis=1))
        found = -np.diff(above, axis=1, prepend=1, append=0) + 0.0  # of equal ones no -0
    else:
        raise ValueError(f"the link is {link!r}: it must be softmax, sigmoid or corn")
    return found.astype(np.float32, copy=False)


def open_onnx(file: Path, threads: int | None = None) -> Logits:
    """Return the network of an ONNX file; its graph is data, computed by onnxruntime's operations.

    Args:
        file: with pictures `images` and outputs `logits` and `probabilities`; it may refer to no
            other file.
        threads: at most; None for OMP_NUM_THREADS, or else the choice of onnxruntime.

    Raises:
        ValueError: the file is missing or damaged, or holds another kind of network.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("onnxruntime is not installed: make install EXTRAS=export") from None

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    stated = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(stated) if stated.isdigit() else 0)
    try:
        # From its bytes, so that no weights are read from other files.
        session = onnxruntime.InferenceSession(
            file.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
        names = [x.name for x in (*session.get_inputs(), *session.get_outputs())]
        if names != [INPUT, *OUTPUTS]:
            raise ValueError(f"it goes from {names[0]} to {names[-1]}")
    except Exception as error:  # onnxruntime has a dozen exceptions of its own
        raise ValueError(f"{file} holds no network that can be loaded: {error}") from error

    def logits(images: Pixels) -> Float32Array:
        return session.run([OUTPUTS[0]], {INPUT: images})[0]

    return logits


def open_pt2(file: Path) -> Logits:
    """Return the network of a .pt2 file, on the CPU.

    torch would unpickle and evaluate some parts of an archive; a file that holds such parts, or
    calls anything but operations on tensors, is not loaded.

    Raises:
        ValueError: the file is missing or damaged, or could run code.
    """
    import torch

    try:
        _require_data(file)
        # Its guards are Python as text, and the predictor has checked the pictures' shapes.
        network = torch.export.load(file).module(check_guards=False)
    except Exception as error:  # zip, JSON and torch have many exceptions for a damaged file
        raise ValueError(f"{file} holds no network that can be loaded: {error}") from error

    def logits(images: Pixels) -> Float32Array:
        with torch.inference_mode():
            raw, _ = network(torch.from_numpy(images))
            found: Float32Array = raw.numpy()
        return found

    return logits


def _require_data(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for item in archive.infolist():
            _, _, part = item.filename.partition("/")
            if not _PARTS.fullmatch(part):
                raise ValueError(f"{part} is no part of plain data")
            if part.endswith(".pt") and item.file_size:
                raise ValueError(f"{part} is pickled")
            if part.endswith(".json"):
                json.loads(archive.read(item), object_pairs_hook=_require_plain)


def _require_plain(entries: list[tuple[str, Any]]) -> None:
    """Check the entries of an object in JSON, one of any depth."""
    for key, value in entries:
        if key == "use_pickle" and value:
            raise ValueError("its weights are pickled")
        if key == "target" and isinstance(value, str) and not _OPERATIONS.fullmatch(value):
            raise ValueError(f"it calls {value}")
        if key == "expr_str" and not _SIZE.fullmatch(str(value)):
            raise ValueError(f"a size in it is {value}")
