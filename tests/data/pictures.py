"""Pictures and folders of pictures that tests make for themselves."""

from __future__ import annotations

import io
import os
import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.config.data import DataSettings
from src.data.decoding.decode import decode_picture
from src.data.decoding.opening import open_pictures
from src.data.decoding.picture_format import PictureFormat
from src.data.decoding.picture_store import PictureStore
from src.data.sources.listing import list_pictures
from src.records.pictures import Pixels

if TYPE_CHECKING:
    from src.data.loading.picture_data import PictureData


def pixels(seed: int, height: int = 12, width: int = 16, channels: int = 3) -> NDArray[np.uint8]:
    """Noise (height, width, channels), or (height, width) for one channel."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return noise[..., 0] if channels == 1 else noise


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png(seed: int, height: int = 12, width: int = 16, channels: int = 3) -> bytes:
    return encoded(Image.fromarray(pixels(seed, height, width, channels)), "PNG")


def write(path: Path, data: bytes) -> Path:
    """Write a file, with its folders, that looks as if it had been there for an hour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    age(path)
    return path


def write_pair(
    root: Path, number: int, pixels: NDArray[np.uint8], classes: NDArray[np.uint8]
) -> None:
    """root/images/<number>.png and root/masks/<number>.png, of pictures and classes (H, W)."""
    for folder, values in (("images", pixels), ("masks", classes)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(root / folder / f"{number}.png")


def flip(file: Path, place: int | None = None) -> bytes:
    """Change a bit, by default in the middle, and nothing that a look at the folder would show.

    Returns what the file was.
    """
    status, whole = file.stat(), file.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2 if place is None else place] ^= 1
    with file.open("r+b") as stream:
        stream.write(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    return whole


def age(path: Path, seconds: float = 3600.0) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def tree(root: Path, counts: dict[str, int], seed: int = 0, **size: int) -> Path:
    """root/<folder>/<number>.png, each picture another one."""
    for folder, count in counts.items():
        for _ in range(count):
            write(root / folder / f"{seed:03d}.png", png(seed, **size))
            seed += 1
    return root


def settings_of(cache: Path, **options: Any) -> DataSettings:
    given = {"_target_": "src.data.sources.folder.load", "name": "folder", "num_workers": 2}
    return DataSettings(**(given | {"cache_dir": str(cache)} | options))


def opened(
    root: Path, cache: Path, *, native_side: int | None = None, **options: Any
) -> PictureStore:
    settings = settings_of(cache, **options)
    source = list_pictures(replace(settings, root=str(root)))
    return open_pictures(source, settings, native_side=native_side)


def data_of(root: Path, *words: str) -> PictureData:
    """The pictures of a folder as a run with these overrides opens them."""
    # Not needed by the processes that open pictures in little memory.
    from src.config.compose import compose_settings
    from src.config.schema import RunSettings
    from src.runs import build

    words = ("data=folder", f"data.root={root}", f"data.cache_dir={root.parent / 'cache'}", *words)
    return build.build_data(compose_settings(RunSettings, words))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png_file(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG file of what its header says, with these rows, also such as Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def claiming(width: int, height: int) -> bytes:
    """A PNG file of some bytes whose header says that it is large."""
    return png_file(width, height, 8, 0, b"")


def decoded(
    data: bytes | Path | Image.Image,
    size: tuple[int, int] = (12, 16),
    channels: int = 3,
    fit: str = "squeeze",
) -> Pixels:
    return decode_picture(data, PictureFormat(size, channels, fit), display=True)
