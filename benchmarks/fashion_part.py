"""A part of Fashion-MNIST, for epochs that take seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from src.data.sources import fashion_mnist

__all__ = ["write_part"]


def write_part(folder: Path, pictures: int, tests: int = 500) -> None:
    """The first pictures of Fashion-MNIST as idx files, so that an epoch takes seconds.

    Args:
        folder: to write to.
        pictures: of the training part.
        tests: pictures of the test part; it has 10,000.
    """
    source = fashion_mnist.load(None, folder, True)
    assert source.arrays is not None and source.given_parts is not None
    for prefix, part, count in (("train", "train", pictures), ("t10k", "test", tests)):
        ids = np.flatnonzero(source.given_parts == part)[:count]
        for kind, array in (
            ("images-idx3", source.arrays[ids, 0]),
            ("labels-idx1", source.targets[ids]),
        ):
            axes = [len(array), *array.shape[1:]]
            header = bytes([0, 0, 8, len(axes)]) + b"".join(n.to_bytes(4, "big") for n in axes)
            content = header + np.ascontiguousarray(array, np.uint8).tobytes()
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(content)
