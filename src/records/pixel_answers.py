"""Answers about the pixels of pictures: what is kept of them, and how a file holds it.

Probabilities of all pixels would take gigabytes. A picture's confusion matrix, its log-loss and the
classes that were predicted hold all that is computed and drawn later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..machine.arrays import AnyArray, IntegerArray, UInt8Array

__all__ = ["colours", "pixel_answers", "pixel_columns", "read_pixel_columns"]

_MATRIX, _LOSS, _MAP = "matrix", "log_loss", "map"


def pixel_answers(
    matrices: IntegerArray,
    log_losses: NDArray[np.floating[Any]],
    maps: Sequence[bytes | None],
) -> AnyArray:
    """Return answers (N,) with the fields matrix, log_loss and map.

    Args:
        matrices: (N, K, K) pixels of a picture by target (rows) and prediction, without those that
            are left out.
        log_losses: (N,) mean over these pixels, in nats; 0 where there are none.
        maps: N predicted class maps as PNG files, or None where they are not at hand.
    """
    count, classes = matrices.shape[:2]
    kind = [(_MATRIX, np.int64, (classes, classes)), (_LOSS, np.float32), (_MAP, object)]
    answers = np.empty(count, np.dtype(kind))
    answers[_MATRIX], answers[_LOSS] = matrices, log_losses
    answers[_MAP][:] = maps
    return answers


def pixel_columns(answers: AnyArray) -> dict[str, Any]:
    """Return the columns of a parquet table: K * K pixels, the log-loss, and a PNG a picture."""
    import pyarrow as pa

    matrices = np.ascontiguousarray(answers[_MATRIX])
    flat = pa.array(matrices.reshape(-1))
    size = int(np.prod(matrices.shape[1:]))
    return {
        _MATRIX: pa.FixedSizeListArray.from_arrays(flat, size),
        _LOSS: pa.array(np.ascontiguousarray(answers[_LOSS])),
        _MAP: pa.array(answers[_MAP].tolist(), pa.binary()),
    }


def read_pixel_columns(table: Any, classes: int, *, maps: bool) -> AnyArray:
    """Return the answers in a table's columns; without `maps`, these are None."""
    flat: AnyArray = np.from_dlpack(table[_MATRIX].combine_chunks().flatten())
    found = table[_MAP].to_pylist() if maps else [None] * len(table)
    losses: AnyArray = np.from_dlpack(table[_LOSS].combine_chunks())
    return pixel_answers(flat.reshape(len(table), classes, classes), losses, found)


def colours(classes: int) -> UInt8Array:
    """Return (classes, 3) distinct colours, black for the first class.

    The bits of the number are dealt to the highest bits of red, green and blue in turn, as the
    masks of Pascal VOC are coloured.
    """
    numbers = np.arange(classes)
    found = np.zeros((classes, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = (numbers >> (3 * place + channel)) & 1
            found[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return found
