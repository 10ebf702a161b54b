"""Types of NumPy's arrays, by the type of their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AnyArray",
    "BoolArray",
    "BytesArray",
    "Float32Array",
    "Float64Array",
    "Int64Array",
    "IntegerArray",
    "TextArray",
    "UInt8Array",
]

AnyArray = NDArray[Any]
BoolArray = NDArray[np.bool_]
BytesArray = NDArray[np.bytes_]  # fixed-width texts of ASCII, such as hashes
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
Int64Array = NDArray[np.int64]
IntegerArray = NDArray[np.integer[Any]]  # of any width
TextArray = NDArray[np.str_]
UInt8Array = NDArray[np.uint8]
