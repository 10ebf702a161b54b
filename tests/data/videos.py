"""Videos that tests write."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

__all__ = ["HEIGHT", "WIDTH", "shade", "video"]

HEIGHT, WIDTH = 48, 64


def shade(number: int) -> np.ndarray:
    """Return a frame whose lower half is the brighter, the later it comes."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[HEIGHT // 2 :] = 6 * number
    pixels[: HEIGHT // 2] = 255 - 6 * number
    return pixels


def video(kind: str = "mp4", codec: str = "libx264", frames: int = 40, **options: str) -> bytes:
    """Return a video of `shade` frames; without the extra `video` the test is skipped."""
    av: Any = pytest.importorskip("av", reason="the extra video is not installed")
    written = io.BytesIO()
    with av.open(written, "w", format=kind) as container:
        track = container.add_stream(codec, rate=10, options=options)
        track.width, track.height, track.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        track.time_base = Fraction(1, 10)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(shade(number), format="rgb24")
            frame.pts = number
            container.mux(track.encode(frame))
        container.mux(track.encode())
    return written.getvalue()
