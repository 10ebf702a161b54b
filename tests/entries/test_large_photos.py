"""Photos of 12 megapixels, and pictures on a share that may only be read."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.entries.commands import MEASURED, complete, only_run, summary_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PHOTOS = 300
# What torch and Lightning take, and little more: the photos together are 10.8 GB of pixels.
MOST_KIB = 2 << 20
_READ_ONLY = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77
umask 077
shift; exec "$@"
"""


def test_300_photos_of_12_megapixels_from_a_read_only_share_take_little_memory(
    environment: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no file system can be mounted here")
    photos, outputs = _photos(tmp_path / "photos"), tmp_path / "outputs"
    overrides = ["data=folder", f"data.root={photos}", "model=mlp", "model.hidden=[16]"]
    overrides += ["data.image_size=32", "trainer.max_epochs=1", "runtime=float32", "tracking=none"]
    command = [sys.executable, "-m", "src.train", *overrides, f"output_dir={outputs}"]
    result = complete(
        [
            *("unshare", "-rm", "sh", "-c", _READ_ONLY, "sh", str(photos)),
            *(sys.executable, "-c", MEASURED, *command),
        ],
        environment | {"BAKEOFF_CACHE": str(tmp_path / "cache")},
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no file system can be mounted here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    label, peak = result.stdout.splitlines()[-1].split()
    assert label == "peak" and int(peak) < MOST_KIB
    folder = only_run(outputs)
    assert summary_of(folder)["status"] == "FINISHED"
    assert (folder / "split.csv").read_text().count("\n") == 1 + PHOTOS
    # With umask 077 nobody else may look into what was written.
    assert (folder / "summary.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def _photos(folder: Path) -> Path:
    """Of ten scenes, each with a comment of its own, which makes the files differ."""
    draws = np.random.default_rng(0)
    for scene in range(10):
        small = draws.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        photo = io.BytesIO()
        Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC).save(photo, "JPEG")
        target = folder / ("even" if scene % 2 == 0 else "odd")
        target.mkdir(parents=True, exist_ok=True)
        content = photo.getvalue()
        for number in range(PHOTOS // 10):
            comment = f"photo {number}".encode()
            marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
            file = target / f"{scene}-{number}.jpg"
            file.write_bytes(content[:2] + marker + content[2:])
    return folder
