"""Checks of the bytes of a picture file before Pillow opens it, and bytes that are left out."""

from __future__ import annotations

import io
import os
from typing import BinaryIO

__all__ = ["png_without_texts", "webp_size"]

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def webp_size(stream: BinaryIO) -> tuple[int, int]:
    """Return the width and height that the header of a WebP file states; 0, 0 for other files."""
    start = stream.read(30)
    stream.seek(0)
    if start[:4] != b"RIFF" or start[8:12] != b"WEBP" or len(start) < 30:
        return 0, 0
    if start[12:16] == b"VP8X":
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
    elif start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        width, height = ((bits >> at & 0x3FFF) + 1 for at in (0, 14))
    else:
        width, height = (int.from_bytes(start[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return width, height


def png_without_texts(stream: BinaryIO) -> BinaryIO | None:
    """Return a PNG file without its texts and its colour profile; None for another file.

    Nothing of them is used, and Pillow opens no file in which they take a megabyte or more.
    """
    stream.seek(0)
    if stream.read(len(_PNG)) != _PNG:
        return None
    kept = io.BytesIO()
    kept.write(_PNG)
    while len(head := stream.read(8)) == 8:
        rest = int.from_bytes(head[:4], "big") + 4  # and a checksum
        if head[4:] in _TEXTS:
            stream.seek(rest, os.SEEK_CUR)
        else:
            kept.write(head + stream.read(rest))
    return kept
