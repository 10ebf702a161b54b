"""What a folder of very many pictures costs until its first batch, and how that grows.

Pictures are PGM files of 1 KB in 100 classes, of 32x32 pixels without structure, and one in a
hundred is another one in a little more light. A process of its own lists, reads, decodes, compares
and divides them. Compared are seconds of the processor, which other programs hardly change, and
memory without what is mapped from files, of which the system takes back what it needs.
`python -m benchmarks.many_pictures 1000000` measures a million, which takes a quarter of an hour
and 3 GB of the disk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import Row

__all__ = ["measure"]

_SIZES = (10_000, 100_000)
_CLASSES, _SIDE, _BLOCK = 100, 32, 1000
_GROWTH_BAR = 1.2
_MEMORY_BAR_MB = 2000.0
_STEPS = ("list", "read and decode", "compare", "divide", "first batch")


def measure(sizes: tuple[int, ...] = _SIZES) -> list[Row]:
    """The growth of each step from the smallest size to the largest, and the memory of this."""
    found = [_measured(size) for size in sizes]
    first, last = found[0], found[-1]
    rows = []
    if len(sizes) > 1:
        times = {step: last["seconds"][step] / first["seconds"][step] for step in _STEPS[:4]}
        total = sum(last["seconds"].values()) / sum(first["seconds"].values())
        growth = total / (sizes[-1] / sizes[0])
        steps = ", ".join(f"{step} {factor:.1f}x" for step, factor in times.items())
        rows.append(
            Row(
                f"a first start on {sizes[-1]:,} pictures instead of {sizes[0]:,}: processor time",
                f"{total:.1f}x, {growth:.2f} of linear ({steps})",
                f"at most {_GROWTH_BAR} of linear",
                growth <= _GROWTH_BAR,
            )
        )
    spent = ", ".join(f"{step} {last['seconds'][step]:.1f}" for step in _STEPS)
    rows.append(
        Row(
            f"a first start on {sizes[-1]:,} pictures: memory",
            f"{last['memory_mb']:.0f} MB; seconds of the processor: {spent}",
            f"at most {_MEMORY_BAR_MB:.0f} MB",
            last["memory_mb"] <= _MEMORY_BAR_MB,
        )
    )
    return rows


def _measured(size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        _write_pictures(Path(name) / "pictures", size)
        command = [sys.executable, "-m", "benchmarks.many_pictures", name]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if result.returncode:
            sys.exit(f"the start on {size} pictures failed")
        found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    if found["near"] != size // 100:
        sys.exit(f"of {size // 100} near-duplicates {found['near']} were found")
    return found


def _write_pictures(root: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for label in range(_CLASSES):
        (root / f"class_{label:03}").mkdir(parents=True)
    for start in range(0, count, _BLOCK):
        coarse = rng.integers(0, 250, (_BLOCK, _SIDE // 4, _SIDE // 4), np.uint8)
        pictures = coarse.repeat(4, axis=1).repeat(4, axis=2)
        pictures[99::100] = pictures[98::100] + 3
        for number, pixels in enumerate(pictures, start=start):
            file = root / f"class_{number % _CLASSES:03}" / f"{number:07}.pgm"
            file.write_bytes(b"P5\n%d %d\n255\n" % (_SIDE, _SIDE) + pixels.tobytes())


def _start(folder: Path) -> dict[str, Any]:
    """Seconds of the processor of each step, and the most memory, of a first start in here."""
    from src.config.data import FolderSettings
    from src.data.decoding.opening import open_pictures
    from src.data.loading.picture_data import PictureData
    from src.data.quality.suspects import examine
    from src.data.sources.listing import list_pictures

    settings = FolderSettings(
        _target_="src.data.sources.folder.load",
        name="many",
        root=str(folder / "pictures"),
        cache_dir=str(folder / "cache"),
        num_workers=2,
    )
    seconds: dict[str, float] = {}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        before = time.process_time()
        found = work()
        seconds[step] = time.process_time() - before
        return found

    with _Watch() as watch:
        source = timed("list", lambda: list_pictures(settings))
        store = timed("read and decode", lambda: open_pictures(source, settings))
        cache = folder / "cache"
        near = timed("compare", lambda: examine(store, cache_dir=cache, workers=2)).near
        data = timed(
            "divide",
            lambda: PictureData.open(source, settings, native_side=None, batch_size=128, seed=0),
        )
        timed("first batch", lambda: next(iter(data.batches("train", training=True))))
    return {"seconds": seconds, "memory_mb": watch.most_mb, "near": len(near.pairs)}


class _Watch:
    """The most memory of this process that is not mapped from files, every 20 ms."""

    most_mb = 0.0

    def __enter__(self) -> _Watch:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            lines = Path("/proc/self/status").read_text().splitlines()
            used = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.most_mb = max(self.most_mb, used / 1e3)


if __name__ == "__main__":
    if sys.argv[1].isdecimal():
        from benchmarks.table import print_table

        print_table(measure((_SIZES[0], int(sys.argv[1]))))
    else:
        print(json.dumps(_start(Path(sys.argv[1]))))
