"""JPEG files by libjpeg-turbo itself, which Pillow wraps as well, in two thirds of the time."""

from __future__ import annotations

import io
import os
from typing import BinaryIO, NamedTuple

from ...machine.arrays import UInt8Array
from .picture_files import MAX_FILE_BYTES, opened_by_pillow
from .rasters import orientation_of
from .resizing import thread_memory

try:
    import simplejpeg
except ImportError:  # as where an exported model is served; Pillow reads the same pixels
    simplejpeg = None

__all__ = ["Jpeg", "read_jpeg"]

_START = b"\xff\xd8\xff"
# Markers: of EXIF and XMP, and of what the pixels begin with.
_APP1, _SOS, _FILL = 0xE1, 0xDA, 0xFF
# What the pixels of a file become, by the name of its colours.
_COLOURS = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "GRAY"}


class Jpeg(NamedTuple):
    """The pixels of a JPEG file, in memory that the next file in this thread overwrites."""

    pixels: UInt8Array  # (H, W, C) of 1 or 3 channels, as stored
    orientation: int  # of EXIF, 1 (none) to 8


def read_jpeg(stream: BinaryIO, *, shortest: int, most_pixels: int) -> Jpeg | None:
    """Return the pixels of a JPEG file in grey or colour, those that Pillow reads.

    None of any other file, and of one that libjpeg so much as warns about: why a file is refused,
    Pillow says.

    Args:
        stream: of the file, at its start.
        shortest: the side from which on pictures are left to Pillow, if both are as long.
        most_pixels: larger pictures are left to it, too.

    Raises:
        PictureError: it has too much before its pixels.
    """
    if simplejpeg is None or stream.read(len(_START)) != _START:
        return None
    if stream.seek(0, os.SEEK_END) > MAX_FILE_BYTES:
        return None
    stream.seek(0)
    data = stream.read()
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in _COLOURS or height * width > most_pixels:
            return None
        if min(height, width) >= shortest:
            return None
        memory = thread_memory(height * width * (1 if colours == "Gray" else 3))
        pixels = simplejpeg.decode_jpeg(data, _COLOURS[colours], buffer=memory)
    except ValueError:
        return None
    orientation = 1
    if _has_metadata(data):
        orientation = orientation_of(opened_by_pillow(io.BytesIO(data)))
    return Jpeg(pixels, orientation)


def _has_metadata(data: bytes) -> bool:
    """Return whether a JPEG file has EXIF or XMP, or segments that are not where they should be."""
    at = 2
    while len(head := data[at : at + 4]) == 4 and head[0] == _FILL:
        marker, length = head[1], int.from_bytes(head[2:])
        if marker in (_APP1, _SOS):
            return marker == _APP1
        at += 1 if marker == _FILL else 2 + length
    return True
