"""The decoded pictures of a source, as an entry of the cache that is mapped into memory.

The entry is named after the content of the pictures and the format that they are decoded to, so it
is found from wherever the pictures lie.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from src.config.checks import ConfigError
from src.data.decoding.decode import PictureError, PictureFormat, decode_picture
from src.data.quality.audit import Survey, content_hash
from src.data.sources.source import Source
from src.machine.disk import OF_THE_PROCESS
from src.machine.parallel import in_order
from src.storage.cache import cached, key_of

__all__ = ["ContentChanged", "Decoded", "decoded", "picture"]

_log = logging.getLogger(__name__)

# Part of every key: to be raised when the same file would decode to other pixels.
_VERSION = 3
_FILE = "images.bin"
_BLOCK_BYTES = 4 << 20
_PROGRESS_SECONDS = 10.0


class ContentChanged(ConfigError):
    """A file was changed after the audit; another audit helps, unless the changes go on."""


@dataclass(frozen=True)
class Decoded:
    """The outcome of decoding the N pictures of a source.

    Attributes:
        images: (M, C, H, W) uint8, read-only, of the pictures that can be used; None if not stored.
        reasons: index within the N -> why this picture cannot be used.
        flat: indices within the N of pictures of a single colour.
        from_cache: whether nothing had to be decoded now.
    """

    images: npt.NDArray[np.uint8] | None
    reasons: dict[int, str]
    flat: tuple[int, ...]
    from_cache: bool


def decoded(
    source: Source,
    found: Survey,
    form: PictureFormat,
    *,
    stored: bool,
    folder: Path,
    workers: int,
) -> Decoded:
    """Return all pictures decoded, now or at an earlier time; several processes decode them once.

    Args:
        source: N pictures.
        found: their audit.
        form: the format to decode them to.
        stored: whether to store the pixels; if not, the pictures are decoded once, and only which
            of them cannot be used is stored.
        folder: of the decoded pictures in the cache.
        workers: threads that decode.

    Raises:
        ContentChanged: a file is not what was found.
        ConfigError: the disk is full or cannot be written, or memory or files run short.
    """
    entry = cached(
        folder / key_of([_VERSION, form.identity(), len(source)], found.hashes.tobytes()),
        lambda unfinished: _write(source, found, form, stored, unfinished, workers),
        what="the decoded pictures",
        usable=lambda entry: bool(entry.values["stored"]) or not stored,
    )
    values, images = entry.values, None
    if values["stored"] and values["shape"][0]:
        file = entry.folder / _FILE
        images = np.memmap(file, np.uint8, mode="r", shape=tuple(values["shape"]))
    return Decoded(
        images, dict(values["reasons"]), tuple(values["flat"]), from_cache=not entry.built
    )


def picture(
    source: Source, index: int, wanted: PictureFormat, expected: bytes | None = None
) -> npt.NDArray[np.uint8]:
    """Decode picture `index` of a source to (channels, *image_size), uint8.

    Args:
        expected: the hash of the file's content; None to take any content.

    Raises:
        PictureError: it cannot be decoded, or is not what is expected.
    """
    if source.arrays is not None:
        return _decode(_as_image(source.arrays[index]), wanted)
    path = Path(source.file(index))
    if expected is None:
        return _decode(path, wanted)
    try:
        data = path.read_bytes()
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        raise PictureError(f"cannot be opened: {error.strerror}") from error
    if content_hash(data) != expected:
        raise PictureError("has been changed since it was looked at")
    return _decode(data, wanted)


def _decode(data: bytes | Path | Image.Image, wanted: PictureFormat) -> npt.NDArray[np.uint8]:
    return decode_picture(
        data,
        image_size=wanted.image_size,
        channels=wanted.channels,
        fit=wanted.fit,
        value_range=wanted.value_range,
    )


class _Block(NamedTuple):
    """Some pictures decoded one after another; indices are those of the source."""

    images: npt.NDArray[np.uint8]
    reasons: list[tuple[int, str]]
    flat: list[int]


def _write(
    source: Source,
    found: Survey,
    form: PictureFormat,
    stored: bool,
    target: Path,
    workers: int,
) -> dict[str, Any]:
    """Decode block by block into `target`. Written, not mapped: a full disk is then an error."""
    indices = [index for index in range(len(source)) if index not in found.reasons]
    row_shape = (form.channels, *form.image_size)
    row_bytes = int(np.prod(row_shape))
    per_block = max(1, min(256, _BLOCK_BYTES // row_bytes))
    blocks = [indices[at : at + per_block] for at in range(0, len(indices), per_block)]
    room = shutil.disk_usage(target).free
    if stored and len(indices) * row_bytes > room:
        raise ConfigError(
            f"the decoded pictures take {len(indices) * row_bytes / 1e9:.1f} GB, and "
            f"{target.parent} has {room / 1e9:.1f} GB free: make room, name another folder with "
            "data.cache_dir, or lower data.cache_limit_gb to have them decoded whenever they are "
            "read."
        )

    def work(block: list[int]) -> _Block:
        return _decode_block(source, found, form, block)

    _log.info(
        "%s %d pictures at %dx%d once, with %d threads",
        "decoding" if stored else "checking",
        len(indices),
        *form.image_size,
        workers,
    )
    reasons: list[tuple[int, str]] = []
    flat: list[int] = []
    count = 0
    with (target / _FILE).open("wb") as stream:
        for done in _reported(in_order(work, blocks, workers), len(indices), per_block):
            reasons += done.reasons
            flat += done.flat
            count += len(done.images)
            if stored:
                stream.write(done.images.data)
    return {
        "stored": stored,
        "shape": [count, *row_shape],
        "reasons": reasons,
        "flat": flat,
    }


def _decode_block(source: Source, found: Survey, form: PictureFormat, indices: list[int]) -> _Block:
    images = np.empty((len(indices), form.channels, *form.image_size), np.uint8)
    block = _Block(images, [], [])
    count = 0
    for index in indices:
        data = _surveyed(source, found, index)
        try:
            image = _decode(data, form)
        except PictureError as error:
            block.reasons.append((index, str(error)))
            continue
        if image.min() == image.max():
            block.flat.append(index)
        images[count] = image
        count += 1
    return block._replace(images=images[:count])


def _surveyed(source: Source, found: Survey, index: int) -> bytes | Image.Image:
    """Return the content whose hash is part of the entry's key.

    Pixels of anything else, or a reason that holds for a moment only, would stay in the cache
    under that key.

    Raises:
        ContentChanged: the file cannot be read any more, or has another content.
    """
    if source.arrays is not None:
        return _as_image(source.arrays[index])
    try:
        data = Path(source.file(index)).read_bytes()
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        raise ContentChanged(
            f"{source.sample_name(index)} could be read a moment ago and now cannot: "
            f"{error.strerror}. Run again."
        ) from error
    if content_hash(data) != found.hashes[index]:
        raise ContentChanged(
            f"{source.sample_name(index)} has just been changed: let whatever writes it end, and "
            "run again."
        )
    return data


def _as_image(row: npt.NDArray[np.uint8]) -> Image.Image:
    """Return a row (C, H, W) of an array as a picture."""
    return Image.fromarray(row[0] if len(row) == 1 else row.transpose(1, 2, 0).copy())


def _reported(blocks: Iterable[_Block], total: int, per_block: int) -> Iterable[_Block]:
    """Yield the blocks, with a line in the log now and then."""
    logged = time.monotonic()
    for number, block in enumerate(blocks, start=1):
        if time.monotonic() - logged > _PROGRESS_SECONDS:
            logged = time.monotonic()
            _log.info("%d of %d pictures", min(number * per_block, total), total)
        yield block
