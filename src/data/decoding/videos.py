"""Frames of videos, by the package av (FFmpeg), which is optional."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from .depth import PixelError
from .rasters import MissingPackage

__all__ = ["VIDEO_ENDINGS", "Video", "container_of"]

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


class Video:
    """A video in a file, whose frames are best asked for in their order.

    Attributes:
        last: the number of the frame that was decoded last, 0 before the first.

    Args:
        stream: of the file.
        container: as `container_of` names it.

    Raises:
        PixelError: it has no pictures.
        MissingPackage: av is not installed.
    """

    def __init__(self, stream: BinaryIO, container: str) -> None:
        self._video = _opened(stream, container)
        self._track = self._video.streams.video[0]
        # When each frame is shown, in units of the video's own, and of those that stand for
        # themselves; the file is read.
        packets = [one for one in self._video.demux(self._track) if one.pts is not None]
        self._times: list[int] = sorted(packet.pts for packet in packets)
        self._keys: list[int] = sorted(packet.pts for packet in packets if packet.is_keyframe)
        self._frames: Iterator[Any] | None = None
        self._image: tuple[int, Image.Image] | None = None  # the last one, and when it is shown
        self.last = 0

    def __len__(self) -> int:
        return len(self._times)

    def frame(self, number: int, *, max_pixels: int) -> Image.Image:
        """Return a frame, upright and in colour.

        Args:
            number: of the frame in the order of showing, from 0.
            max_pixels: above which nothing is decoded.

        Raises:
            PixelError: there is no such frame, it cannot be decoded, or it has more pixels.
        """
        if number >= len(self):
            raise PixelError(f"has {len(self)} frames, and no frame {number + 1}")
        pixels = self._track.codec_context.width * self._track.codec_context.height
        if pixels > max_pixels:
            raise PixelError(f"has frames of {pixels / 1e6:.0f} megapixels")
        wanted = self._times[number]
        if self._image is None or self._image[0] != wanted:
            self._image = self._decoded(wanted, number)
        self.last = number
        return self._image[1]

    def _decoded(self, wanted: int, number: int) -> tuple[int, Image.Image]:
        before = bisect_right(self._keys, wanted)
        key = self._keys[before - 1] if before else wanted
        if self._frames is None or self._image is None or not key <= self._image[0] < wanted:
            # To the last frame before it that stands for itself, and on from there.
            self._video.seek(wanted, stream=self._track, backward=True)
            self._frames = self._video.decode(self._track)
        # What fails is not gone on with.
        frames, self._frames = self._frames, None
        for frame in frames:
            if (time := _shown_at(frame)) is not None and time >= wanted:
                self._frames = frames
                upright = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                return time, Image.fromarray(np.ascontiguousarray(upright))
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


def _shown_at(frame: Any) -> int | None:
    return frame.pts
