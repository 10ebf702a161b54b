"""Frames of videos, by the package av (FFmpeg), which is optional."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from .depth import PixelError
from .rasters import MissingPackage

__all__ = ["VIDEO_ENDINGS", "container_of", "count_frames", "read_frame"]

VIDEO_ENDINGS = frozenset((".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm"))
# FFmpeg's names of the formats that are read. Others, such as playlists, may name further files.
_MOV, _AVI, _MATROSKA = "mov", "avi", "matroska"
# The first box of a file of the MP4 kind, by its type.
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")
_PICTURE_BRANDS = frozenset((b"avif", b"avis", b"mif1", b"msf1", b"jxl ", b"crx ")) | {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"),
}


def container_of(start: bytes) -> str | None:
    """Return the format of a video by its first 12 bytes; None where it is none that is read."""
    if start[4:8] in _BOXES and start[8:12] not in _PICTURE_BRANDS:
        return _MOV
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return _AVI
    return _MATROSKA if start[:4] == b"\x1a\x45\xdf\xa3" else None


def count_frames(stream: BinaryIO, container: str) -> int:
    """Return how many frames a video has that is opened at its start.

    Raises:
        PixelError, MissingPackage: as `read_frame`.
    """
    with _opened(stream, container) as video:
        return len(_times(video))


def read_frame(stream: BinaryIO, container: str, number: int, *, max_pixels: int) -> Image.Image:
    """Return a frame of a video that is opened at its start, upright and in colour.

    Args:
        stream: of the file.
        container: as `container_of` names it.
        number: of the frame in the order of showing, from 0.
        max_pixels: above which nothing is decoded.

    Raises:
        PixelError: there is no such frame, it cannot be decoded, or it has more than `max_pixels`.
        MissingPackage: av is not installed.
    """
    with _opened(stream, container) as video:
        times = _times(video)
        if number >= len(times):
            raise PixelError(f"has {len(times)} frames, and no frame {number + 1}")
        track = video.streams.video[0]
        pixels = track.codec_context.width * track.codec_context.height
        if pixels > max_pixels:
            raise PixelError(f"has frames of {pixels / 1e6:.0f} megapixels")
        # To the last frame before it that stands for itself, and on from there.
        video.seek(times[number], stream=track, backward=True)
        for frame in video.decode(track):
            if frame.pts is not None and frame.pts >= times[number]:
                upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                return Image.fromarray(np.ascontiguousarray(upright))
    raise PixelError(f"ends before its frame {number + 1} can be decoded")


def _opened(stream: BinaryIO, container: str) -> Any:
    try:
        import av
    except ImportError:
        raise MissingPackage(
            "is a video, which needs the package av (make install EXTRAS=video, or pip install av)"
        ) from None
    stream.seek(0)
    video = av.open(stream, format=container)
    if not video.streams.video:
        video.close()
        raise PixelError("is a video without pictures")
    # Threads of the decoder read ahead, past the one frame that is wanted.
    video.streams.video[0].codec_context.thread_count = 1
    return video


def _times(video: Any) -> list[int]:
    """Return when each frame is shown, sorted, in units of the video's own; the file is read."""
    track = video.streams.video[0]
    return sorted(packet.pts for packet in video.demux(track) if packet.pts is not None)
