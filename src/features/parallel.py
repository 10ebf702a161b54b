"""Description of many pictures, on all cores."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from src.features.fusion import Extractor
from src.features.picture import Floats

__all__ = ["described"]

_log = logging.getLogger(__name__)

Reader = Callable[[int], NDArray[np.uint8]]
_AT_ONCE = 128
# Starting processes takes a second or two: what is done sooner is done here.
_WORTH_PROCESSES_SECONDS = 6.0
_PROGRESS_SECONDS = 10.0


def described(
    extractor: Extractor, read: Reader, indices: NDArray[np.int64], workers: int
) -> Iterator[Floats]:
    """Describe pictures; yields blocks of rows (n, D) in the order of `indices`.

    The rows do not depend on the number of processes.

    Args:
        extractor: what describes them.
        read: picture number i as (C, H, W) uint8; it goes to the processes once.
        indices: (N,) which pictures, N at least 1.
        workers: processes, where the work is worth them.
    """
    chunks = [indices[at : at + _AT_ONCE] for at in range(0, len(indices), _AT_ONCE)]
    started = time.perf_counter()
    yield _rows(extractor, read, chunks[0])
    remaining = (time.perf_counter() - started) * (len(chunks) - 1)
    alone = workers == 1 or not extractor.in_processes
    # A process that another program started as its helper may not start any.
    blocks: Iterator[Floats]
    if alone or remaining < _WORTH_PROCESSES_SECONDS or multiprocessing.current_process().daemon:
        blocks = map(partial(_rows, extractor, read), chunks[1:])
    else:
        blocks = _in_processes(extractor, read, chunks[1:], workers)
    said = time.monotonic()
    for number, block in enumerate(blocks, start=2):
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            _log.info("%d of %d pictures described", number * _AT_ONCE, len(indices))
        yield block


def _rows(extractor: Extractor, read: Reader, chunk: NDArray[np.int64]) -> Floats:
    return extractor(np.stack([read(index) for index in chunk.tolist()]))


def _in_processes(
    extractor: Extractor, read: Reader, chunks: list[NDArray[np.int64]], workers: int
) -> Iterator[Floats]:
    # Not forked: torch has threads by now, and a fork would copy their locks.
    pool = ProcessPoolExecutor(
        min(workers, len(chunks)),
        multiprocessing.get_context("spawn"),
        initializer=_start,
        initargs=(extractor, read),
    )
    try:
        yield from pool.map(_work, chunks)
    finally:
        pool.shutdown(cancel_futures=True)


_job: tuple[Extractor, Reader]


def _start(extractor: Extractor, read: Reader) -> None:
    """In a new process: keep what to do, leave Ctrl-C to the parent, and do not outlive it."""
    global _job  # noqa: PLW0603 - a worker is its process
    _job = extractor, read
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(chunk: NDArray[np.int64]) -> Floats:
    return _rows(*_job, chunk)
