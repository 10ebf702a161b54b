"""Pictures, caches and folders that a command may only read, or not even that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.entries.commands import complaints, complete, only_run

pytestmark = pytest.mark.slow
# Root without its capabilities is refused what any other user would be.
_WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def typed(cache: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"BAKEOFF_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    prefix = _WITHOUT_RIGHTS if os.geteuid() == 0 else ()
    return complete([*prefix, sys.executable, "-m", *words], environment, umask=0o077)


def trained(tmp_path: Path, cache: str, output: str) -> subprocess.CompletedProcess[str]:
    overrides = [
        "data=folder",
        f"data.root={tmp_path / 'pictures'}",
        "model=mlp",
        "model.hidden=[4]",
    ]
    overrides += ["trainer.max_epochs=1", "runtime=float32", "tracking=none", "data.num_workers=1"]
    return typed(tmp_path / cache, "src.train", *overrides, f"output_dir={tmp_path / output}")


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root is refused nothing, and there is no setpriv")
    for number in range(20):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path: Path) -> None:
    done = trained(tmp_path, "cache", "theirs/outputs")
    assert done.returncode == 0, done.stderr
    theirs, pictures = tmp_path / "theirs", tmp_path / "pictures"
    run = only_run(theirs / "outputs")
    theirs.chmod(0)
    try:
        for words in (
            ["train", f"resume={run}"],
            ["train", "data=folder", f"data.root={pictures}", f"data.cache_dir={theirs}/cache"],
            ["train", "data=folder", f"data.root={pictures}", f"output_dir={theirs}/outputs"],
            ["sweep", "data=folder", f"data.root={pictures}", f"output_dir={theirs}/outputs"],
            ["predict", f"run={run}", f"images={pictures}"],
            ["predict", f"run={run.name}", f"images={pictures}", f"output_dir={theirs}/outputs"],
            ["compare", f"output_dir={theirs}/outputs"],
            ["select", f"run={run.name}", f"output_dir={theirs}/outputs"],
            ["evaluate", f"run={run}"],
            ["export", f"run={run}"],
            ["verify", f"output_dir={theirs}/outputs"],
        ):
            module, *overrides = words
            refused = typed(tmp_path / "cache", f"src.{module}", *overrides)
            assert refused.returncode == 2, (words, refused.stdout + refused.stderr)
            assert len(complaints(refused.stderr)) == 1, refused.stderr
            assert f"you may not look into {theirs}: give yourself permission" in refused.stderr
    finally:
        theirs.chmod(0o755)


def test_what_may_only_be_read_is_trained_on(tmp_path: Path) -> None:
    closed = [tmp_path / "pictures" / name for name in ("a", "b", ".")]
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for folder in (*closed, theirs):
        folder.chmod(0o555)
    try:
        done = trained(tmp_path, "mine/cache", "mine/outputs")
        assert done.returncode == 0, done.stderr
        folder = only_run(tmp_path / "mine" / "outputs")
        assert (folder / "summary.json").stat().st_mode & 0o077 == 0
        for cache, output in (("theirs/cache", "mine/more"), ("mine/cache", "theirs/outputs")):
            refused = trained(tmp_path, cache, output)
            assert refused.returncode == 2, refused.stdout + refused.stderr
            assert len(complaints(refused.stderr)) == 1, refused.stderr
            assert str(theirs) in refused.stderr and "you may not write" in refused.stderr
            assert not list((tmp_path / "mine").glob("more/runs/*"))
        outputs = tmp_path / "mine" / "outputs"
        counts = outputs / "test_measurements.jsonl"
        counts.chmod(0o444)  # as of another user who shares the folder
        for words in (
            ["train", f"data.root={tmp_path / 'pictures'}", "data=folder", "model=mlp"],
            ["evaluate", f"run={folder}", "split=test"],
            ["select", f"run={folder}", "refit=true", "tracking.enabled=false"],
            ["sweep", f"data.root={tmp_path / 'pictures'}", "data=folder", "families=[mlp]"],
        ):
            module, *overrides = words
            refused = typed(
                tmp_path / "mine" / "cache", f"src.{module}", *overrides, f"output_dir={outputs}"
            )
            assert refused.returncode == 2, refused.stdout + refused.stderr
            assert len(complaints(refused.stderr)) == 1, refused.stderr
            assert f"you may not write to {counts}" in refused.stderr
            assert only_run(outputs) == folder
    finally:
        for folder in (*closed, theirs):
            folder.chmod(0o755)
