"""scikit-learn's handwritten digits: 1,797 real 8x8 grey pictures, installed with the package.

They are the test part of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (1998).
"""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError
from .source import Source

__all__ = ["load"]


def load(root: Path | None, cache_dir: Path, download: bool) -> Source:
    """Return the digits as arrays (1797, 1, 8, 8), with no parts of their own.

    Raises:
        ConfigError: a root is given, which this set has no use for.
    """
    if root is not None:
        raise ConfigError(
            f"data.root is {str(root)!r}, but the digits come with scikit-learn: "
            f"for pictures of your own set data={root}."
        )
    table = _table()
    # The file counts ink from 0 to 16 in every pixel.
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    targets = table[:, 64].astype(np.int64)
    return Source("digits", tuple("0123456789"), targets, arrays=images, published=True)


@cache
def _table() -> np.ndarray:
    """Return (1797, 65) floats: 64 pixels in [0, 16] and the digit."""
    # Importing scikit-learn takes seconds.
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(file, "rt", encoding="ascii") as lines:
        return np.loadtxt(lines, delimiter=",")
