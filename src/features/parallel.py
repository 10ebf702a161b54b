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

from src.features.descriptors.picture import Floats
from src.features.fusion import Extractor
from src.machine.parallel import a_window, in_order

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
        read: picture number i as (C, H, W) uint8; asked in threads.
        indices: (N,) which pictures, N at least 1.
        workers: threads that read, and processes where the work is worth them.
    """
    _log.info("describing %d pictures once", len(indices))
    chunks = [indices[at : at + _AT_ONCE] for at in range(0, len(indices), _AT_ONCE)]
    # What is read one by one is decoded in threads, ahead of its use.
    pictures = in_order(partial(_pictures, read), chunks, workers)
    started = time.perf_counter()
    yield extractor(next(pictures))
    remaining = (time.perf_counter() - started) * (len(chunks) - 1)
    alone = workers == 1 or not extractor.in_processes
    blocks: Iterator[Floats]
    # A process that another program started as its helper may not start any.
    if alone or remaining < _WORTH_PROCESSES_SECONDS or multiprocessing.current_process().daemon:
        blocks = map(extractor, pictures)
    else:
        blocks = _in_processes(extractor, pictures, min(workers, len(chunks)))
    said = time.monotonic()
    for number, block in enumerate(blocks, start=2):
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            done = min(number * _AT_ONCE, len(indices))
            left = (time.perf_counter() - started) * (len(indices) / done - 1)
            _log.info("%d of %d pictures described, %.0f s left", done, len(indices), left)
        yield block


def _pictures(read: Reader, chunk: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.stack([read(index) for index in chunk.tolist()])


def _in_processes(
    extractor: Extractor, pictures: Iterator[NDArray[np.uint8]], workers: int
) -> Iterator[Floats]:
    # Not forked: torch has threads by now, and a fork would copy their locks. What a new process is
    # given at its start is small, or a process that dies there would keep its parent waiting.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(extractor,)
    )
    yield from a_window(pool, _work, pictures, 2 * workers)


_extractor: Extractor


def _start(extractor: Extractor) -> None:
    """In a new process: keep what to do, leave Ctrl-C to the parent, and do not outlive it."""
    global _extractor  # noqa: PLW0603 - a worker is its process
    _extractor = extractor
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(images: NDArray[np.uint8]) -> Floats:
    return _extractor(images)
