"""Data sets in the idx format of LeCun's MNIST: four files, each a header and an array of bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config.checks import ConfigError
from ...machine.arrays import UInt8Array
from .roots import existing_root, find_published
from .source import Source

__all__ = ["IdxSet", "read_idx"]

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class IdxSet:
    """A data set of four idx files, each plain or as .gz.

    Attributes:
        name, class_names: of the data set, and K of its classes.
        system: the folder where the operating system's package puts the files.
        torchvision_name: its class in `torchvision.datasets`, which writes into a raw/ below that.
    """

    name: str
    class_names: tuple[str, ...]
    system: Path
    torchvision_name: str

    def __call__(self, root: Path | None, cache_dir: Path, download: bool) -> Source:
        """Return the set as arrays (N, 1, H, W) with its parts train and test.

        Args:
            root: folder of the files; when given, nothing else is looked at.
            cache_dir: the project's cache, whose downloads/ is looked at after `system`.
            download: whether to fetch what is nowhere on this machine.

        Raises:
            ConfigError: the files are not to be had, or one is damaged.
        """
        downloads = cache_dir / "downloads"
        fetched = downloads / self.torchvision_name / "raw"
        if root is not None:
            existing_root(root)
            places = [root, root / "raw", root / self.torchvision_name / "raw"]
        else:
            places = [self.system, fetched]
        folder = find_published(
            self.name,
            self.torchvision_name,
            _complete,
            places=places,
            folder=downloads if root is None and download else None,
            files=f"{', '.join(_FILES)} (each plain or as .gz)",
            put=root or fetched,
        )
        parts = [_part(folder, "train"), _part(folder, "t10k")]
        images = np.concatenate([images for images, _ in parts])[:, None]
        targets = np.concatenate([targets for _, targets in parts]).astype(np.int64)
        if targets.max() >= len(self.class_names):
            raise ConfigError(f"{folder}: the labels reach {targets.max()}, past the last class.")
        given = np.repeat(["train", "test"], [len(targets) for _, targets in parts])
        return Source(
            self.name,
            self.class_names,
            targets,
            arrays=images,
            given_parts=given,
            published=True,
        )


def read_idx(path: Path) -> UInt8Array:
    """Return the array of bytes in an idx file, plain or .gz, in the shape its header gives.

    Raises:
        ConfigError: the file is damaged or is no idx file of bytes.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Fetch it anew.") from None
    # Two zero bytes, the type (8: unsigned bytes), the number of axes, then 4 bytes an axis.
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    start = 4 + 4 * axes
    header = data[4:start]
    shape = [int.from_bytes(header[at : at + 4], "big") for at in range(0, len(header), 4)]
    if axes == 0 or len(data) - start != math.prod(shape):
        raise ConfigError(f"{path} is damaged or is no idx file of bytes. Fetch it anew.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _part(folder: Path, prefix: str) -> tuple[UInt8Array, UInt8Array]:
    paths = [_found(folder, file) for file in _FILES if file.startswith(prefix)]
    images, targets = (read_idx(path) for path in paths if path is not None)
    if images.ndim != 3 or targets.ndim != 1 or len(images) != len(targets) or not len(images):
        raise ConfigError(
            f"{paths[0]} holds an array {images.shape} and {paths[1]} one {targets.shape}: "
            "they are not pictures with their labels."
        )
    return images, targets


def _complete(place: Path) -> Path | None:
    """Return a folder that has all four files; None for others."""
    return place if all(_found(place, file) for file in _FILES) else None


def _found(folder: Path, file: str) -> Path | None:
    paths = (folder / file, folder / f"{file}.gz")
    return next((path for path in paths if path.is_file()), None)
