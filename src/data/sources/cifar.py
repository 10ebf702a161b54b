"""The python version of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): pickled batches, read safely.

A pickle can run any code when it is loaded, and these files may come from anywhere, so
the reader below builds arrays and plain containers, and refuses everything else.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...config.checks import ConfigError
from .roots import existing_root, find_published
from .source import Source

__all__ = ["CifarSet"]


@dataclass(frozen=True)
class CifarSet:
    """One of the two data sets.

    Attributes:
        name, torchvision_name: of the data set, and of its class in `torchvision.datasets`.
        archive, folder: the file that is published, and the folder in it.
        train, test: names of the batches of each part.
        labels_key: of a batch's labels.
        names, names_key: the file with the class names, and their key in it.
    """

    name: str
    torchvision_name: str
    archive: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels_key: bytes
    names: str
    names_key: bytes

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, *self.test, self.names)

    def __call__(self, root: Path | None, cache_dir: Path, download: bool) -> Source:
        """Return the set as arrays (60000, 3, 32, 32) with its parts train and test.

        Args:
            root: the .tar.gz, the folder of the batches, or a folder with either.
            cache_dir: the project's cache, whose downloads/ is looked at without a root.
            download: whether to fetch what is not there.

        Raises:
            ConfigError: the files are not to be had, or one is damaged.
        """
        downloads = cache_dir / "downloads"
        place = downloads if root is None else existing_root(root)
        wanted = f"{self.archive} or the folder {self.folder}"
        if (place / "train").is_dir() and root is not None and self._reader(root) is None:
            raise ConfigError(
                f"data.root is {str(root)!r}, which has folders of pictures in place of "
                f"{wanted}: set data=folder."
            )
        read = find_published(
            self.name,
            self.torchvision_name,
            self._reader,
            places=[place],
            folder=downloads if root is None and download else None,
            files=wanted,
            put=place,
        )
        tables = {file: _unpickled(read(file), place, file) for file in self.files}
        names = tables[self.names].get(self.names_key, ())
        names = tuple(name.decode() if isinstance(name, bytes) else name for name in names)
        batches = [
            _batch(tables[file], self.labels_key, place, file) for file in (*self.train, *self.test)
        ]
        targets = np.concatenate([targets for _, targets in batches])
        if targets.max() >= len(names):
            raise ConfigError(f"{place}: the labels do not fit the {len(names)} class names.")
        counts = [len(targets) for _, targets in batches]
        parts = ["train"] * len(self.train) + ["test"] * len(self.test)
        return Source(
            self.name,
            names,
            targets,
            arrays=np.concatenate([images for images, _ in batches]),
            given_parts=np.repeat(parts, counts),
            published=True,
        )

    def _reader(self, place: Path) -> Callable[[str], bytes] | None:
        """Return a function from a file's name to its bytes; None where `place` lacks the set."""
        for folder in (place, place / self.folder):
            if all((folder / file).is_file() for file in self.files):
                return lambda file: (folder / file).read_bytes()
        for archive in (place, place / self.archive):
            if archive.is_file():
                return _members(archive, self).__getitem__
        return None


def _members(archive: Path, wanted: CifarSet) -> dict[str, bytes]:
    """Return the needed files of the archive, read into memory: no path is ever written."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                file = member.name.rpartition("/")[2]
                if file in wanted.files and member.isfile():
                    stream = tar.extractfile(member)
                    found[file] = b"" if stream is None else stream.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ConfigError(f"{archive} cannot be read: {error}. Fetch it anew.") from None
    missing = [file for file in wanted.files if file not in found]
    if missing:
        raise ConfigError(f"{archive} has no {', '.join(missing)}: it is no {wanted.archive}.")
    return found


class _ArraysOnly(pickle.Unpickler):
    """Loads numpy arrays and plain containers; anything else could run code."""

    # Written by Python 2, so the names are those of numpy's old modules.
    _allowed = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickled(data: bytes, place: Path, file: str) -> dict[bytes, Any]:
    try:
        table = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    # A damaged pickle raises exceptions of many kinds.
    except Exception as error:
        raise ConfigError(f"{file} in {place} cannot be read: {error}. Fetch it anew.") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{file} in {place} is damaged: it holds no table. Fetch it anew.")
    return {key.encode() if isinstance(key, str) else key: value for key, value in table.items()}


def _batch(
    table: dict[bytes, Any], labels_key: bytes, place: Path, file: str
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = table.get(b"data"), table.get(labels_key)
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.ndim != 2
        or images.shape[1] != 3 * 32 * 32
        or not isinstance(labels, list)
        or len(labels) != len(images)
        or not labels
        or not all(type(label) is int and 0 <= label < 100 for label in labels)
    ):
        raise ConfigError(f"{file} in {place} is damaged: no 32x32 pictures with their labels.")
    return images.reshape(-1, 3, 32, 32), np.asarray(labels, np.int64)
