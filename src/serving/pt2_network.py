"""A .pt2 file as what turns pictures into logits, read only where it is nothing but data."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from src.serving.exported import Logits

__all__ = ["open_pt2"]

# The parts of an archive, below its own folder, that are numbers or JSON.
_PARTS = re.compile(
    r"models/model\.json|data/(weights|constants)/(model_\w+_config\.json|(weight|tensor)_\d+)"
    r"|data/sample_inputs/model\.pt|archive_format|archive_version|version|byteorder"
    r"|\.data/(serialization_id|version)|\.format_version|\.storage_alignment"
)
_OPERATIONS = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.\w+|torch\.sym_\w+")
# Sizes such as 4*s0, as sympy writes them: it would evaluate whatever else stood there as Python.
_SIZE = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, \w+=True)*\)|(?:Integer|Rational|Add|Mul|Pow|Mod|Max|Min)\("
    r"|FloorDiv\(|[su]?\d+|[-+*/(), ])*"
)


def open_pt2(file: Path) -> Logits:
    """The network of a file, on the CPU.

    torch would unpickle and evaluate some parts of an archive; one that holds such parts, or calls
    anything but operations on tensors, is not loaded.

    Raises:
        ValueError: the file is missing or damaged, or could run code.
    """
    try:
        _require_data(file)
        # Its guards, Python in text, would only repeat what the predictor sees to.
        network = torch.export.load(file).module(check_guards=False)
    except Exception as error:  # zip, JSON and torch have many words for a damaged file
        raise ValueError(f"{file} holds no network that can be loaded: {error}") from error

    def logits(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = network(torch.from_numpy(images)).numpy()
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
                _require_plain(json.loads(archive.read(item)))


def _require_plain(content: Any) -> None:
    for key, value in _entries(content):
        if key == "use_pickle" and value:
            raise ValueError("its weights are pickled")
        if key == "target" and isinstance(value, str) and not _OPERATIONS.fullmatch(value):
            raise ValueError(f"it calls {value}")
        if key == "expr_str" and not _SIZE.fullmatch(str(value)):
            raise ValueError(f"a size in it is {value}")


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, however deep."""
    waiting = [content]
    while waiting:
        match waiting.pop():
            case dict() as found:
                yield from found.items()
                waiting += found.values()
            case list() as found:
                waiting += found
