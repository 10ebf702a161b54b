"""Memory of a training on a folder twice as large as may be kept decoded: flat, or growing?"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.table import Row

__all__ = ["measure"]

# 16,000 pictures of 3 x 128 x 128 bytes are 0.79 GB decoded.
_PICTURES, _CLASSES, _SIDE = 16_000, 4, 128
_LIMIT_GB = 0.39
_EPOCHS = 4
_BAR_MB = 1500.0
# Later epochs may find the allocator a little fuller; a leak of one batch in ten would show.
_FLAT = 1.1


def measure() -> list[Row]:
    """Memory of the whole process tree, shared pages counted once, every half second."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_pictures(folder / "pictures")
        words = ["data=folder", f"data.root={folder / 'pictures'}", f"data.cache_dir={folder}"]
        words += [f"data.cache_limit_gb={_LIMIT_GB}", f"data.image_size={_SIDE}", "model=cnn"]
        words += ["model.widths=[8,16]", f"trainer.max_epochs={_EPOCHS}", "runtime=float32"]
        words += ["tracking=none", "evaluate_test=false", f"output_dir={folder}"]
        seen = _watched([sys.executable, "-m", "src.train", *words])
    # The epochs' lines divide the time; before the first all that training needs comes to be.
    early, late = (max(used for used, epoch in seen if epoch == e) for e in (1, _EPOCHS - 1))
    peak = max(used for used, _ in seen)
    return [
        Row(
            "streaming a folder twice as large as the memory limit: peak memory",
            f"{peak:.0f} MB; last epoch {late / early:.2f}x the second",
            "flat, at most 1500 MB",
            peak <= _BAR_MB and late <= _FLAT * early,
        )
    ]


def _watched(command: list[str]) -> list[tuple[float, int]]:
    """MB in use while `command` runs, each with the number of epochs that it has told of."""
    seen: list[tuple[float, int]] = []
    told: list[str] = []
    process = subprocess.Popen(
        command,
        cwd=Path(__file__).resolve().parents[1],
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
