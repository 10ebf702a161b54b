"""Frames of videos are the pictures that were written, in their order and upright."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.config.compose import compose_settings
from src.config.schema import RunSettings
from src.data.decoding import videos
from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_files import PictureError, PictureFile, pages_of, read_header
from src.data.decoding.picture_format import PictureFormat
from src.data.decoding.picture_store import picture
from src.data.decoding.videos import container_of
from src.data.sources.listing import list_pictures
from src.data.sources.source import Source
from tests.data.pictures import png, write
from tests.data.videos import HEIGHT, WIDTH, shade, video

av: Any = pytest.importorskip("av", reason="the extra video is not installed")

# Counter-clockwise turns as MP4 files state them, in numbers of 16.16 and 2.30 bits.
_ONE = 0x10000
_MATRICES = {
    0: (_ONE, 0, 0, 0, _ONE, 0, 0, 0, 1 << 30),
    1: (0, -_ONE, 0, _ONE, 0, 0, 0, WIDTH * _ONE, 1 << 30),
    3: (0, _ONE, 0, -_ONE, 0, 0, HEIGHT * _ONE, 0, 1 << 30),
}


def decoded(data: bytes, number: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    return decode_picture(data, PictureFormat(size, 3), page=number).astype(int)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libx264"), ("mov", "mpeg4"), ("avi", "mpeg4"), ("matroska", "ffv1")],
)
def test_each_frame_is_what_was_written(kind: str, codec: str) -> None:
    data = video(kind, codec)
    assert pages_of(io.BytesIO(data), all_pages=True, frames=3) == range(0, 40, 3)
    header = read_header(io.BytesIO(data), 7)
    assert (header.height, header.width, header.bands) == (HEIGHT, WIDTH, 3)
    for number in (39, 0, 13, 14, 38):
        expected = shade(number).transpose(2, 0, 1)[:, [4, -4]]
        assert np.abs(decoded(data, number)[:, [4, -4]] - expected).max() <= 8


@pytest.mark.parametrize("turns", [1, 3])
def test_a_video_that_was_taken_sideways_stands_upright(turns: int) -> None:
    data = video("mp4", frames=3)
    plain, turned = (struct.pack(">9i", *_MATRICES[one]) for one in (0, turns))
    place = data.index(plain, data.index(b"tkhd"))
    sideways = data[:place] + turned + data[place + len(turned) :]
    assert read_header(io.BytesIO(sideways)).height == WIDTH
    expected = np.rot90(decoded(data, 1), turns, axes=(1, 2))
    np.testing.assert_array_equal(decoded(sideways, 1, (WIDTH, HEIGHT)), expected)


def test_what_is_no_frame_is_a_fault_of_the_picture() -> None:
    data = video(frames=5)
    with pytest.raises(PictureError, match="has 5 frames, and no frame 6"):
        decoded(data, 5)
    for damaged in (data[:200], data[:60] + bytes(len(data) - 60)):
        with pytest.raises(PictureError):
            decoded(damaged, 0)


def test_pictures_are_no_videos() -> None:
    box = b"\0\0\0\x20ftyp"
    assert container_of(box + b"isom") == "mov"
    for start in (b"\x89PNG\r\n\x1a\n\0\0\0\r", b"RIFF\0\0\0\0WEBP", b"II*\0" + bytes(8), b""):
        assert container_of(start) is None
    assert not any(container_of(box + brand) for brand in (b"heic", b"avif", b"mif1"))


def test_frames_become_pictures_of_one_group(tmp_path: Path) -> None:
    for number, ending in enumerate(("mp4", "mov", "mp4", "mov")):
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.{ending}", video(frames=10))
        write(tmp_path / "set" / "ab"[number % 2] / f"{number}.png", png(number))

    def listed(*words: str) -> Source:
        words = ("data=folder", f"data.root={tmp_path / 'set'}", *words)
        return list_pictures(compose_settings(RunSettings, words).data)

    assert len(listed()) == 4, "videos are left out unless asked for"
    source = listed("data.frames=4")
    assert source.sample_paths is not None and source.groups is not None
    frames = [name for name in source.sample_paths if "#" in name]
    assert len(source) == 16 and frames[:3] == ["a/0.mp4#1", "a/0.mp4#5", "a/0.mp4#9"]
    for index, name in enumerate(source.sample_paths):
        path, _, number = name.partition("#")
        assert source.groups[index] == path
        if number:
            low = picture(source, index, PictureFormat((HEIGHT, WIDTH), 3))[:, -4].mean()
            assert abs(low - 6 * (int(number) - 1)) <= 8


@pytest.mark.parametrize(
    ("kind", "codec", "options"),
    [
        ("mp4", "libx264", {"g": "12", "bf": "3"}),
        ("mp4", "libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
        ("matroska", "libx264", {"g": "100"}),
        ("avi", "mpeg4", {"g": "5"}),
    ],
)
def test_frames_in_a_row_are_those_that_are_decoded_alone(
    kind: str, codec: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = video(kind, codec, **options)
    opened, open_video = [], av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: opened.append(1) or open_video(*a, **k))
    file, form = PictureFile(io.BytesIO(data)), PictureFormat((HEIGHT, WIDTH), 3)
    order = [*range(0, 40, 3), 39, 5, 6, 6, 30, 31]
    kept = []
    for page in order:
        read_header(file, page)
        kept.append(decode_picture(file, form, page=page))
    assert len(opened) == 1
    for page, one in zip(order, kept, strict=True):
        np.testing.assert_array_equal(one, decode_picture(data, form, page=page))


def test_a_frame_in_a_row_costs_no_more_than_those_since_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, form = PictureFile(io.BytesIO(video(g="100"))), PictureFormat((HEIGHT, WIDTH), 3)
    decoded = []
    monkeypatch.setattr(videos, "_shown_at", lambda frame: decoded.append(1) or frame.pts)
    for page in range(0, 40, 4):
        decode_picture(file, form, page=page)
    assert len(decoded) == 37, "each frame once, up to the last that is asked for"
