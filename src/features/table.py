"""The features of a data set, computed once and kept by content.

What is kept is named after the pictures' own hashes and what describes them, in an order of its
own: other names, other parts and other folders find it, and so do the folds of a cross-validation.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.decoding.cache import PictureStore
from src.data.splitting.splits import Split
from src.features.descriptors.picture import Floats
from src.features.fusion import Extractor, Mirrored
from src.features.parallel import described
from src.storage.build_once import made_once
from src.storage.digests import checked_line, line_content

__all__ = ["FeatureTable", "is_whole_table"]

_log = logging.getLogger(__name__)

# Part of every folder's name: to be raised when the same picture would be described otherwise.
_VERSION = 2


class FeatureTable:
    """What one or several extractors say of the pictures of a split.

    The test part is described when somebody asks for it, and not before.

    Args:
        pictures: the decoded pictures.
        split: the part of each.
        extractors: whose features stand one after another.
        cache_dir: the project's cache folder.
        cache_limit_bytes: largest array to be kept on disk.
        workers: processes that describe.

    Attributes:
        sizes: how many features each extractor gives; known once a part was asked for.
        seconds: that describing what was asked for took, whenever that was.
    """

    def __init__(
        self,
        pictures: PictureStore,
        split: Split,
        extractors: Sequence[Extractor],
        *,
        cache_dir: Path,
        cache_limit_bytes: int,
        workers: int,
    ) -> None:
        self._pictures = pictures
        self._split = split
        self._extractors = tuple(extractors)
        self._folder = cache_dir / "features"
        self._limit = cache_limit_bytes
        self._workers = workers
        self.sizes: tuple[int, ...] = ()
        self._took: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        return sum(self._took.values())

    def part(self, name: str, *, mirrored: bool = False) -> Floats:
        """(n, D) float32: a row for each picture of "train", "val" or "test", in the split's order.

        Args:
            name: of the part.
            mirrored: describe the pictures mirrored left to right.

        Raises:
            ConfigError: the disk is full or cannot be written.
        """
        wanted = getattr(self._split, name)
        # Training and validation share an entry: to move pictures between them costs nothing.
        together = wanted if name == "test" else np.union1d(self._split.train, self._split.val)
        hashes, first = np.unique(self._pictures.content_hashes[together], return_index=True)
        rows = np.searchsorted(hashes, self._pictures.content_hashes[wanted])
        extractors = [Mirrored(e) if mirrored else e for e in self._extractors]
        blocks = [self._block(e, hashes, together[first])[rows] for e in extractors]
        self.sizes = tuple(block.shape[1] for block in blocks)
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)

    def _block(
        self, extractor: Extractor, hashes: NDArray[np.bytes_], indices: NDArray[np.int64]
    ) -> Floats:
        """(n, D) of one extractor, from the cache or computed now."""
        if not len(indices):
            return np.empty((0, sum(self.sizes)), np.float32)
        folder = self._folder / self._key(extractor, hashes)
        kept = _read(folder, len(indices))
        if kept is not None:
            self._took[folder.name] = _seconds(folder)
            return kept
        started = time.perf_counter()
        found = described(extractor, self._pictures.read, indices, self._workers)
        first = next(found)
        if first.shape[1] * first.itemsize * len(indices) > self._limit:
            whole: Floats = np.concatenate([first, *found])
            self._took[folder.name] = time.perf_counter() - started
            return whole

        def make(unfinished: Path) -> None:
            if folder.exists():
                _log.warning("the features in %s are damaged: computing them anew", folder)
            _write(unfinished, np.concatenate([first, *found]), started)

        made_once(
            folder,
            make,
            usable=lambda path: _read(path, len(indices)) is not None,
            what="the features",
        )
        kept = _read(folder, len(indices))
        assert kept is not None, "what was made once is usable"
        self._took[folder.name] = _seconds(folder)
        return kept

    def _key(self, extractor: Extractor, hashes: NDArray[np.bytes_]) -> str:
        pictures = self._pictures
        plan = [_VERSION, extractor.identity, pictures.format.identity(), len(hashes)]
        digest = hashlib.blake2b(json.dumps(plan, sort_keys=True).encode(), digest_size=16)
        digest.update(hashes.tobytes())
        return digest.hexdigest()


def is_whole_table(folder: Path) -> bool:
    """Whether a folder of features is what was written."""
    try:
        return (folder / "digest.txt").read_text() == _digest(folder / "features.npy")
    except (OSError, ValueError):
        return False


def _write(folder: Path, table: Floats, started: float) -> None:
    np.save(folder / "features.npy", table)
    (folder / "seconds.txt").write_bytes(checked_line({"seconds": time.perf_counter() - started}))
    (folder / "digest.txt").write_text(_digest(folder / "features.npy"))


def _read(folder: Path, rows: int) -> Floats | None:
    """What was kept; None where there is nothing, or nothing whole."""
    file = folder / "features.npy"
    try:
        if not is_whole_table(folder):
            return None
        table: Floats = np.load(file, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return table if table.ndim == 2 and len(table) == rows else None


def _seconds(folder: Path) -> float:
    """That describing took; 0 where it was not noted."""
    try:
        return float(line_content((folder / "seconds.txt").read_bytes(), strict=True)["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "blake2b").hexdigest()
