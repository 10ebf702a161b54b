"""The features of a data set: computed once on all cores and stored in the cache by content.

An entry is named after the pictures' content hashes and the extractor: other names, parts and
folders find it, and so do the folds of a cross-validation.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.decoding.picture_store import PictureStore
from ..data.splitting.splits import Split
from ..machine.arrays import BytesArray, Float32Array, Int64Array
from ..machine.cpu_load import ThreadCount
from ..machine.parallel import TooSlow, follow_parent, in_order, new_processes
from ..machine.status import with_progress
from ..records.pictures import Pixels
from ..storage.array_files import header_bytes, save_array
from ..storage.cache import Entry, cache_errors, key_of, opened, read_entry
from ..storage.growing import GrowingFile
from .fusion import Described, Extractor, Mirrored

__all__ = ["FeatureTable", "beside_others", "described"]

_log = logging.getLogger(__name__)

Reader = Callable[[int], Pixels]
# Part of every key: to be raised when the same picture would be described otherwise.
_VERSION = 3
_FILE = "features.npy"
# The rows of the pictures in order, as far as they are described.
_ROWS = "rows"
_AT_ONCE = 128
# How often the training part is halved in search of a table that has some of the rows: frozen
# networks describe a part of it first (`src.runs.candidates.settled`).
_HALVINGS = 4
# Number of pictures between two measurements of the load: as many as a network takes at once.
_BETWEEN_LOOKS = 16
# Bytes of the tables in memory that are too large for the disk: a run asks for each several times.
_MOST_IN_MEMORY = 1 << 29
# Those tables and the seconds that describing took, by the names of their entries, the last ones.
_in_memory: dict[str, tuple[Float32Array, float]] = {}
# Starting processes takes a second or two: shorter work is done in this process.
_WORTH_PROCESSES_SECONDS = 6.0


class _Table(NamedTuple):
    """The folder of a table, the content hash of each row, in order, and a picture of each."""

    folder: Path
    hashes: BytesArray
    indices: Int64Array


class FeatureTable:
    """The features of the pictures of a split, by one or several extractors.

    The features of a part, the test part above all, are computed when they are first needed.

    Args:
        pictures, split: the decoded pictures, and the part of each.
        extractors: whose features stand one after another.
        cache_dir, cache_limit_bytes: the project's cache folder, and the largest array in it. Of
            larger ones the last are kept in memory, up to 0.5 GB.
        workers: processes that describe.
        deadline: on `time.perf_counter`, for describing; None for no limit.

    Attributes:
        sizes: numbers of features of each extractor; known after the first call of `part`.
        seconds: that computing the features in use took, in this process or an earlier one.
        seconds_here: those of them that computing took here, not those of features that were kept.
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
        deadline: float | None = None,
    ) -> None:
        self._pictures = pictures
        self._split = split
        self._extractors = tuple(extractors)
        self._folder = cache_dir / "features"
        self._limit = cache_limit_bytes
        self._workers = workers
        self._deadline = deadline
        self.sizes: tuple[int, ...] = ()
        self._took: dict[str, float] = {}
        self._here: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        return sum(self._took.values())

    @property
    def seconds_here(self) -> float:
        return sum(self._here.values())

    def part(self, name: str, *, mirrored: bool = False) -> Float32Array:
        """Return (n, D) float32: a row for each picture of a part, in the split's order.

        Args:
            name: "train", "val" or "test".
            mirrored: describe the pictures mirrored left to right.

        Raises:
            DiskRefuses: the disk is full.
            ConfigError: the cache cannot be written.
            TooSlow: as soon as it is clear that the deadline cannot be met.
        """
        of = self._mirrored if mirrored else self._rows
        blocks = [of(extractor, name) for extractor in self._extractors]
        self.sizes = tuple(block.shape[1] for block in blocks)
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)

    def _rows(self, extractor: Extractor, name: str) -> Float32Array:
        """Return (n, D) of one extractor and a part."""
        wanted = self._pictures.content_hashes[getattr(self._split, name)]
        own = self._table(extractor, self._split, name)
        # A run on more training pictures has described these as well, and one on fewer some.
        halvings = 0 if extractor.in_processes else _HALVINGS
        nested = [self._split] if name == "test" else self._nested(halvings)
        tables = (self._table(extractor, split, name) for split in nested)
        known = next((table for table in tables if self._is_kept(table)), None)
        if known is not None and len(known.hashes) >= len(own.hashes):
            own, known = known, None
        return self._block(extractor, own, known)[np.searchsorted(own.hashes, wanted)]

    def _mirrored(self, extractor: Extractor, name: str) -> Float32Array:
        """Return `_rows` of mirrored pictures, by those of the pictures where they tell them."""
        told = extractor.mirrored() if isinstance(extractor, Described) else None
        if told is not None:
            return told(self._rows(extractor, name), self._pictures.image_size)
        return self._rows(Mirrored(extractor), name)

    def _nested(self, halvings: int) -> Iterator[Split]:
        """Yield this split without a limit, as it is, and with halves of halves of both.

        The one with the most training pictures comes first.
        """
        whole, own = self._split.whole, len(self._split.train)
        both = product((len(whole.train), own), range(halvings + 1))
        for count in sorted({math.ceil(most / 2**k) for most, k in both}, reverse=True):
            yield self._split if count == own else whole.with_less_training(count)

    def _table(self, extractor: Extractor, split: Split, name: str) -> _Table:
        """Return the table with the rows of a part; training and validation share one.

        To move pictures between them costs nothing.
        """
        together = split.test if name == "test" else np.union1d(split.train, split.val)
        hashes, first = np.unique(self._pictures.content_hashes[together], return_index=True)
        plan = [_VERSION, extractor.identity, self._pictures.identity(), len(hashes)]
        folder = self._folder / key_of(plan, hashes.tobytes())
        return _Table(folder, hashes, together[first])

    def _is_kept(self, table: _Table) -> bool:
        return self._from_memory(table) is not None or self._stored(table.folder) is not None

    def _from_memory(self, table: _Table) -> tuple[Float32Array, float] | None:
        kept = _in_memory.get(table.folder.name)
        return kept if kept is not None and kept[0].nbytes > self._limit else None

    def _stored(self, folder: Path) -> Entry | None:
        with cache_errors("the features", folder.parent):
            return read_entry(folder)

    def _block(self, extractor: Extractor, wanted: _Table, known: _Table | None) -> Float32Array:
        """Return (n, D) of one extractor, from the cache or computed now.

        Args:
            extractor: computes the features.
            wanted: the table of them.
            known: one that is kept and has some of its rows; None where there is none.
        """
        folder, count = wanted.folder, len(wanted.hashes)
        if not count:
            return np.empty((0, sum(self.sizes)), np.float32)
        if (kept := self._from_memory(wanted)) is not None:
            self._took[folder.name] = kept[1]
            return kept[0]
        earlier, earlier_seconds, missing = None, 0.0, np.ones(count, bool)
        before_seconds = 0.0  # of rows that a process has described which did not end
        if known is not None:
            earlier = self._block(extractor, known, None)
            earlier_seconds = self._took.pop(known.folder.name)
            missing = ~np.isin(wanted.hashes, known.hashes)
        new, started = wanted.indices[missing], time.perf_counter()

        def seconds() -> float:
            self._here[folder.name] = time.perf_counter() - started
            return earlier_seconds + before_seconds + self._here[folder.name]

        def table(blocks: Iterable[Float32Array]) -> Float32Array:
            rows = np.concatenate([*blocks])
            if known is None or earlier is None:
                return rows
            whole = np.empty((count, rows.shape[1]), rows.dtype)
            whole[missing] = rows
            whole[~missing] = earlier[np.searchsorted(known.hashes, wanted.hashes[~missing])]
            return whole

        def build(unfinished: Path) -> dict[str, Any]:
            nonlocal before_seconds
            # The array itself grows, unless the new rows come between those that are known.
            file = unfinished / (_FILE if known is None else _ROWS)
            kept = GrowingFile(file, key_of(len(new), wanted.hashes[missing].data))
            rows = _kept_rows(kept)
            before_seconds = sum(block.get("seconds", 0.0) for block in kept.blocks)
            later = self._described(extractor, new, sum(map(len, rows)))
            self._add_rows(kept, rows, later, count, header=known is None)
            if known is not None:
                save_array(unfinished / _FILE, table(rows))
            kept.close()
            (unfinished / _ROWS).unlink(missing_ok=True)
            return {"seconds": seconds()}

        def load(entry: Entry) -> Float32Array:
            self._took[folder.name] = float(entry.values["seconds"])
            rows: Float32Array = np.load(entry.folder / _FILE, allow_pickle=False)
            return rows

        try:
            return opened(folder, build, load, what="the features")
        except _TooLarge as large:
            whole = table(large.blocks)
        self._took[folder.name] = seconds()
        _keep_in_memory(folder.name, whole, self._took[folder.name])
        return whole

    def _add_rows(
        self,
        kept: GrowingFile,
        rows: list[Float32Array],
        later: Iterator[Float32Array],
        count: int,
        *,
        header: bool,
    ) -> None:
        """Add blocks to the rows and to the file of them, each as soon as it is there.

        Args:
            kept: has the rows so far.
            count: of the rows of the whole table.
            header: whether the file becomes the table itself, which begins with its shape.

        Raises:
            _TooLarge: the table is larger than the limit.
        """
        since = time.perf_counter()
        for block in later:
            if block.shape[1] * block.itemsize * count > self._limit:
                kept.clear()  # of an earlier, higher limit
                raise _TooLarge(chain(rows, [block], later))
            rows.append(block)
            if header and not kept.blocks:
                kept.add(header_bytes((count, block.shape[1]), block.dtype), {})
            took, since = time.perf_counter() - since, time.perf_counter()
            form = {"shape": block.shape, "dtype": block.dtype.str}
            kept.add(block.tobytes(), form | {"seconds": took})

    def _described(
        self, extractor: Extractor, indices: Int64Array, done: int
    ) -> Iterator[Float32Array]:
        """Yield `described` of pictures, of which an earlier process has described the first."""
        if done:
            _log.info("%s of %s pictures were described before", f"{done:,}", f"{len(indices):,}")
        if left := indices[done:].size:
            yield from described(
                extractor, self._pictures.read, indices[-left:], self._workers, self._deadline
            )


class _TooLarge(Exception):
    """A table is larger than those that are kept on disk; `blocks` are its rows."""

    def __init__(self, blocks: Iterator[Float32Array]) -> None:
        super().__init__()
        self.blocks = blocks


def _kept_rows(kept: GrowingFile) -> list[Float32Array]:
    """Return the blocks (n, D) that an earlier process has added to a file of rows."""
    return [
        np.frombuffer(content, block["dtype"]).reshape(block["shape"])
        for content, block in zip(kept.contents(), kept.blocks, strict=True)
        if block  # but for the header
    ]


def _keep_in_memory(name: str, table: Float32Array, seconds: float) -> None:
    """Keep a table in this process, in the place of the oldest ones where there are too many."""
    if table.nbytes > _MOST_IN_MEMORY:
        return
    _in_memory[name] = table, seconds
    while sum(kept.nbytes for kept, _ in _in_memory.values()) > _MOST_IN_MEMORY:
        del _in_memory[next(iter(_in_memory))]


def described(
    extractor: Extractor,
    read: Reader,
    indices: Int64Array,
    workers: int,
    deadline: float | None = None,
) -> Iterator[Float32Array]:
    """Yield the features of pictures in blocks of rows (n, D), in the order of `indices`.

    Args:
        extractor: computes the features.
        read: returns picture number i as (C, H, W); called in threads.
        indices: (N,) which pictures, N at least 1.
        workers: threads that read, and processes where the work is worth them.
        deadline: on `time.perf_counter`; None for no limit.

    Raises:
        TooSlow: as soon as it is clear that the deadline cannot be met.
    """
    _log.info("extracting features of %s pictures with %s", f"{len(indices):,}", extractor.name)
    started = time.perf_counter()
    blocks = _blocks(extractor, read, indices, workers)
    blocks = with_progress(blocks, len(indices), f"pictures described by {extractor.name}", len)
    for number, block in enumerate(blocks, start=1):
        done = min(number * _AT_ONCE, len(indices))
        left = (time.perf_counter() - started) * (len(indices) / done - 1)
        if number > 1 and deadline is not None and time.perf_counter() + left > deadline:
            raise TooSlow("extracting the features", left + time.perf_counter() - started)
        yield block


def _blocks(
    extractor: Extractor, read: Reader, indices: Int64Array, workers: int
) -> Iterator[Float32Array]:
    chunks = [indices[at : at + _AT_ONCE] for at in range(0, len(indices), _AT_ONCE)]
    # What is read one by one is decoded in threads, ahead of its use.
    pictures = in_order(
        lambda chunk: np.stack([read(index) for index in chunk.tolist()]), chunks, workers
    )
    describe = beside_others(extractor)
    started = time.perf_counter()
    yield describe(next(pictures))
    remaining = (time.perf_counter() - started) * (len(chunks) - 1)
    alone = workers == 1 or not extractor.in_processes
    # A process that another program started as its helper may not start any.
    if extractor.on_gpu:  # which has work while the next pictures go there and rows come back
        yield from in_order(describe, pictures, 2)
    elif alone or remaining < _WORTH_PROCESSES_SECONDS or multiprocessing.current_process().daemon:
        yield from map(describe, pictures)
    else:
        # Not forked: torch has threads by now, and a fork would copy their locks. What a process is
        # given at its start is small, or one that dies there would keep its parent waiting.
        count = min(workers, len(chunks))
        pool = ProcessPoolExecutor(
            count, new_processes(), initializer=_start, initargs=(extractor,)
        )
        yield from in_order(_work, pictures, count, pool)


def beside_others(extractor: Extractor) -> Callable[[Pixels], Float32Array]:
    """Return an extractor that computes with the threads that have a core beside other programs.

    One that computes in processes, with a thread each, or on a GPU is returned as it is.

    A network on two threads, of which one waits for a core, describes a quarter of the pictures
    that one thread does (two cores at a load of ten).
    """
    if extractor.in_processes or extractor.on_gpu:
        return extractor
    import torch

    from ..models.arithmetic import own_threads

    threads = ThreadCount(torch.get_num_threads())

    def describe(images: Pixels) -> Float32Array:
        rows = []
        with own_threads():
            for at in range(0, len(images), _BETWEEN_LOOKS):
                torch.set_num_threads(threads.now())
                rows.append(extractor(images[at : at + _BETWEEN_LOOKS]))
        return np.concatenate(rows)

    return describe


_extractor: Extractor


def _start(extractor: Extractor) -> None:
    """In a new process: keep what to do."""
    global _extractor  # noqa: PLW0603 - a worker is its process
    _extractor = extractor
    follow_parent()


def _work(images: Pixels) -> Float32Array:
    return _extractor(images)
