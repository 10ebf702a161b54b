"""Pictures as people look at them: in their own proportions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.decoding.decode import decode_picture, read_header

__all__ = ["thumbnail"]


def thumbnail(path: Path | str, longest: int = 180) -> NDArray[np.uint8]:
    """A picture file as (3, H, W) uint8, its longer side at most `longest` pixels.

    Raises:
        PictureError: as `decode_picture`.
        OSError: the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as file:
        header = read_header(file)
    scale = min(1.0, longest / max(header.height, header.width))
    size = (max(1, round(header.height * scale)), max(1, round(header.width * scale)))
    return decode_picture(path, image_size=size, channels=3)
