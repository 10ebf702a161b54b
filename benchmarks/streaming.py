"""Pictures that are read anew in every epoch: their memory, and how fast one core decodes them.

The memory is that of a training on a folder twice as large as may be kept decoded. Decoding is
compared with torchvision's, of JPEG photos to 224x224 with bicubic antialiasing, both in turns on
one and the same core, in seconds of the processor.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import skimage.data
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2.functional import InterpolationMode, resize

from benchmarks.table import Row, spread
from src.data.decoding.decode import decode_picture
from src.data.decoding.picture_format import PictureFormat
from src.machine.subprocesses import ROOT

__all__ = ["measure"]

# 16,000 pictures of 3 x 128 x 128 bytes are 0.79 GB decoded.
_PICTURES, _CLASSES, _SIDE = 16_000, 4, 128
_LIMIT_GB = 0.39
_EPOCHS = 4
_BAR_MB = 1500.0
# Later epochs may find the allocator a little fuller; a leak of one batch in ten would show.
_FLAT = 1.1
# (H, W) of photos as published sets have them, and as cameras make them; how many times each is
# decoded a round.
_PHOTOS = {(400, 600): 20, (3000, 4000): 1}
_NETWORK_SIDE = 224
_ROUNDS = 9
_DECODING_BAR = 0.95


def measure() -> list[Row]:
    """The memory of a training, and the speed of decoding."""
    return [*_decoding(), _memory()]


def _decoding() -> list[Row]:
    """Pictures a second of the processor, ours over torchvision's, a row for each size."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {max(cores)})
    torch.set_num_threads(1)
    form = PictureFormat((_NETWORK_SIDE, _NETWORK_SIDE), 3)

    def theirs(file: bytes) -> None:
        pixels = decode_jpeg(
            torch.frombuffer(bytearray(file), dtype=torch.uint8), ImageReadMode.RGB
        )
        resize(pixels, list(form.image_size), InterpolationMode.BICUBIC, antialias=True)

    rows = []
    for (height, width), times in _PHOTOS.items():
        files = [_photo(one, height, width) for one in ("astronaut", "coffee", "chelsea")] * times
        ratios = []
        for _ in range(_ROUNDS):
            slow, fast = (
                _seconds(way, files) for way in (theirs, lambda f: decode_picture(f, form))
            )
            ratios.append(slow / fast)
        rows.append(
            Row(
                f"decoding photos of {width}x{height} to {_NETWORK_SIDE}x{_NETWORK_SIDE} on one "
                "core: speed over torchvision's",
                spread(ratios),
                f"at least {_DECODING_BAR}x",
                statistics.median(ratios) >= _DECODING_BAR,
            )
        )
    os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    return rows


def _photo(name: str, height: int, width: int) -> bytes:
    """A photo of scikit-image as a JPEG file of this size."""
    image = Image.fromarray(getattr(skimage.data, name)()).resize((width, height))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _seconds(decode: Callable[[bytes], object], files: list[bytes]) -> float:
    """Seconds of the processor for all files."""
    before = time.process_time()
    for file in files:
        decode(file)
    return time.process_time() - before


def _memory() -> Row:
    """Memory of the whole process tree, shared pages counted once, every half second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pictures(folder / "pictures")
        overrides = ["data=folder", f"data.root={folder / 'pictures'}", f"data.cache_dir={folder}"]
        overrides += [f"data.cache_limit_gb={_LIMIT_GB}", f"data.image_size={_SIDE}", "model=cnn"]
        overrides += ["model.widths=[8,16]", f"trainer.max_epochs={_EPOCHS}", "runtime=float32"]
        overrides += ["tracking=none", "evaluate_test=false", f"output_dir={folder}"]
        seen = _watched([sys.executable, "-m", "src.train", *overrides])
    # The epochs' lines divide the time; before the first all that training needs comes to be.
    early, late = (max(used for used, epoch in seen if epoch == e) for e in (1, _EPOCHS - 1))
    peak = max(used for used, _ in seen)
    return Row(
        "streaming a folder twice as large as the memory limit: peak memory",
        f"{peak:.0f} MB; last epoch {late / early:.2f}x the second",
        "flat, at most 1500 MB",
        peak <= _BAR_MB and late <= _FLAT * early,
    )


def _watched(command: list[str]) -> list[tuple[float, int]]:
    """MB in use while `command` runs, each with the number of epochs that it has told of."""
    seen: list[tuple[float, int]] = []
    told: list[str] = []
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    lines = process.stderr
    reader = threading.Thread(target=lambda: told.extend(lines), daemon=True)
    reader.start()
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [tree, *tree.children(recursive=True)]
            used = sum(member.memory_full_info().pss for member in family) / 1e6
            seen.append((used, sum(line.startswith("epoch") for line in told)))
        time.sleep(0.5)
    if process.returncode:
        reader.join()
        sys.exit(f"the training failed:\n{''.join(told)}")
    return seen


def _write_pictures(root: Path) -> None:
    rng = np.random.default_rng(0)
    for label in range(_CLASSES):
        (root / f"class {label}").mkdir(parents=True)
        for number in range(_PICTURES // _CLASSES):
            coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
            picture = Image.fromarray(coarse).resize((_SIDE, _SIDE))
            picture.save(root / f"class {label}" / f"{number:05}.jpg")
