"""Data sets in the idx format of LeCun's MNIST: four files, each a header and an array of bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from src.config.checks import ConfigError
from src.data.sources.places import download_once, existing_root, missing_files
from src.data.sources.source import Source

__all__ = ["load_idx", "read_idx"]

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_idx(
    name: str,
    class_names: tuple[str, ...],
    *,
    root: Path | None,
    system: Path,
    cache_dir: Path,
    download: bool,
    torchvision_name: str,
    fetch: Callable[[Path], object],
) -> Source:
    """A set of four idx files, plain or .gz, as arrays (N, 1, H, W) with its parts train and test.

    Args:
        root: folder of the files; when given, nothing else is looked at.
        system: where the operating system's package puts the files.
        cache_dir: the project's cache, whose downloads/ is looked at next.
        download: whether to fetch what is nowhere on this machine.
        torchvision_name: the folder below downloads/ that `fetch` writes raw/ into.
        fetch: downloads the files, given the folder downloads/.

    Raises:
        ConfigError: the files are not to be had, or one is damaged.
    """
    downloads = cache_dir / "downloads"
    fetched = downloads / torchvision_name / "raw"
    if root is not None:
        existing_root(root)
        places = [root, root / "raw", root / torchvision_name / "raw"]
    else:
        places = [system, fetched]
    folder = _complete(places)
    if folder is None and root is None and download:
        download_once(name, downloads, lambda: fetch(downloads), _described(), fetched)
        folder = _complete([fetched])
    if folder is None:
        raise missing_files(name, _described(), places=places, put=root or fetched)
    parts = [_part(folder, "train"), _part(folder, "t10k")]
    images = np.concatenate([images for images, _ in parts])[:, None]
    targets = np.concatenate([targets for _, targets in parts]).astype(np.int64)
    if targets.max() >= len(class_names):
        raise ConfigError(f"{folder}: the labels reach {targets.max()}, past the last class.")
    given = np.repeat(["train", "test"], [len(targets) for _, targets in parts])
    return Source(name, class_names, targets, arrays=images, given_parts=given)


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of bytes in an idx file, plain or .gz, in the shape its header gives.

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


def _part(folder: Path, prefix: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    paths = [_found(folder, file) for file in _FILES if file.startswith(prefix)]
    images, targets = (read_idx(path) for path in paths if path is not None)
    if images.ndim != 3 or targets.ndim != 1 or len(images) != len(targets) or not len(images):
        raise ConfigError(
            f"{paths[0]} holds an array {images.shape} and {paths[1]} one {targets.shape}: "
            "they are not pictures with their labels."
        )
    return images, targets


def _complete(places: list[Path]) -> Path | None:
    """The first folder that has all four files."""
    for place in places:
        if all(_found(place, file) for file in _FILES):
            return place
    return None


def _found(folder: Path, file: str) -> Path | None:
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            return path
    return None


def _described() -> str:
    return f"{', '.join(_FILES)} (each plain or as .gz)"
