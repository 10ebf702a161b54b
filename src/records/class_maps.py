"""Class maps of a trained model: heat maps of where in a picture a class is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClassMaps"]


@dataclass(frozen=True)
class ClassMaps:
    """Maps of a trained model.

    Attributes:
        of: pictures (B, C, H, W) uint8 and classes (B, M) int64 to look for in each
            -> (B, M, H, W) in [0, 1].
        title: of the maps, and the meaning of bright places.
    """

    of: Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.float32]]
    title: str
