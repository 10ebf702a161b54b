"""The cache among processes that run at once, are killed, or meet a full disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.data.decoding.decode import decode_picture
from tests.data.pictures import opened, tree

REPOSITORY = Path(__file__).parents[3]
OPEN = """
import sys, time
from pathlib import Path
from src.config.checks import ConfigError
from src.data.decoding import decoded
from tests.data.pictures import opened

root, cache = Path(sys.argv[1]), Path(sys.argv[2])
pause, size = float(sys.argv[3]), int(sys.argv[4])
decode = decoded.decode_picture

def slowly(*args, **options):
    time.sleep(pause)
    return decode(*args, **options)

decoded.decode_picture = slowly
print("ready", flush=True)
sys.stdin.readline()
try:
    store = opened(root, cache, image_size=size)
except ConfigError as error:
    print("refused:", error)
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(store.from_cache, int(store.images[::50].astype(int).sum()), peak, flush=True)
"""


def start(
    root: Path,
    cache: Path,
    *,
    pause: float = 0.0,
    size: int = 16,
    first: Callable[[], None] | None = None,
) -> subprocess.Popen[str]:
    """A process that has imported everything and waits for a line before it opens the pictures."""
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN, str(root), str(cache), str(pause), str(size)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=first,  # noqa: PLW1509 - sets a limit, which no thread here minds
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_several_processes_decode_once(tmp_path: Path) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 60, "dog": 60}), tmp_path / "cache"
    running = [start(root, cache, pause=0.005) for _ in range(3)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].split() for process in running]
    assert Counter(words[0] for words in said) == {"False": 1, "True": 2}
    assert len({words[1] for words in said}) == 1
    assert len(list(cache.glob("pictures/*/images.bin"))) == 1


def test_a_killed_writer_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 300, "dog": 300}), tmp_path / "cache"
    process = start(root, cache, pause=0.01, size=64)
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    until = time.monotonic() + 30
    while not any(file.stat().st_size for file in cache.glob("pictures/*.unfinished/images.bin")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    (left,) = cache.glob("pictures/*.unfinished/images.bin")
    whole = 600 * 3 * 64 * 64
    assert 0 < left.stat().st_size < whole
    store = opened(root, cache, image_size=64)
    assert not store.from_cache and store.images is not None and store.images.nbytes == whole
    for index in (0, 299, 599):
        file = root / (store.sample_paths or ())[index]
        image = decode_picture(file, image_size=(64, 64), channels=3)
        np.testing.assert_array_equal(store.images[index], image)
    assert not list(cache.glob("pictures/*.unfinished"))


def test_a_disk_that_fills_up_is_a_plain_error(tmp_path: Path) -> None:
    root, cache = tree(tmp_path / "root", {"cat": 20, "dog": 20}), tmp_path / "cache"

    def no_file_above_100_kilobytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = start(root, cache, size=64, first=no_file_above_100_kilobytes)
    said = process.communicate("go\n", timeout=60)[0]
    assert said.startswith("refused: the decoded pictures cannot be kept: a file in ")
    assert str(cache) in said and "ulimit -f" in said and "data.cache_dir" in said
    assert not list(cache.glob("pictures/*/")) and process.returncode == 0
    assert len(opened(root, cache, image_size=64)) == 40


def test_memory_stays_flat_while_decoding(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cat": 150, "dog": 150})
    peaks = {}
    for size in (8, 512):
        process = start(root, tmp_path / "cache", size=size)
        peaks[size] = int(process.communicate("go\n", timeout=120)[0].split()[2])
    assert (peaks[512] - peaks[8]) * 1024 < 0.3 * 300 * 3 * 512 * 512


@pytest.mark.slow
@pytest.mark.skipif("BAKEOFF_CIFAR10" not in os.environ, reason="needs CIFAR-10 as a JPEG folder")
def test_a_folder_of_sixty_thousand_pictures(tmp_path: Path) -> None:
    root = Path(os.environ["BAKEOFF_CIFAR10"])
    seconds = []
    for _ in range(2):
        start_at = time.monotonic()
        store = opened(root, tmp_path)
        seconds.append(time.monotonic() - start_at)
    assert store.from_cache and store.images is not None
    assert store.images.shape == (60_000, 3, 32, 32)
    assert np.bincount(store.targets).tolist() == [6000] * 10
    assert store.given_parts is not None and (store.given_parts == "test").sum() == 10_000
    assert store.problems == ()
    assert seconds[1] < 0.2 * seconds[0]
