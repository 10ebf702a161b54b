"""Commands where matplotlib or scikit-learn are not installed: what needs them says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.pictures import tree
from tests.entries.commands import complaints, complete, only_run, summary_of
from tests.entries.conftest import Run, Train

pytestmark = pytest.mark.slow

# Run by Python as it starts: neither the modules nor the records of two packages are found.
_NOT_INSTALLED = """
import importlib.metadata
from importlib.machinery import PathFinder

modules, packages = ("matplotlib", "sklearn"), ("matplotlib", "scikit-learn")
known, spec = importlib.metadata.Distribution.from_name.__func__, PathFinder.find_spec

def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in modules else spec(name, path, target)

def from_name(cls, name):
    if name in packages:
        raise importlib.metadata.PackageNotFoundError(name)
    return known(cls, name)

PathFinder.find_spec = classmethod(find_spec)
importlib.metadata.Distribution.from_name = classmethod(from_name)
"""
_QUICK = ("model=mlp", "model.hidden=[8]", "runtime=float32", "trainer.max_epochs=1")


def without(
    packages: tuple[str, ...], folder: Path, environment: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    """What a command gives where these modules are not installed."""
    code = _NOT_INSTALLED.replace('("matplotlib", "sklearn"),', f"{packages!r},", 1)
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    paths = os.pathsep.join([str(folder), *filter(None, [environment.get("PYTHONPATH")])])
    return complete([sys.executable, "-m", *words], environment | {"PYTHONPATH": paths})


def test_a_run_that_cannot_draw_says_so_and_goes_on_once_it_can(
    environment: dict[str, str], run: Run, train: Train, tmp_path: Path
) -> None:
    words = [*_QUICK, "tracking=none"]
    output = f"output_dir={tmp_path / 'out'}"
    done = without(("matplotlib",), tmp_path / "lacking", environment, "src.train", *words, output)
    assert done.returncode == 1, done.stderr
    folder = only_run(tmp_path / "out")
    hint, error = complaints(done.stderr)[-2:]
    assert hint == f"resume with: python -m src.train resume={folder}"
    assert error.startswith("error: the package matplotlib cannot be loaded (No module named ")
    assert summary_of(folder)["status"] == "FAILED"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    resumed = run("src.train", f"resume={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 1/1" not in resumed.stderr, "it is not trained again"
    whole = train(tmp_path / "whole", *words)
    for part in ("val", "test"):
        mine, theirs = (f / "predictions" / f"{part}.parquet" for f in (folder, whole))
        assert mine.read_bytes() == theirs.read_bytes()


def test_a_network_is_chosen_pushed_and_used_without_what_draws_and_fits(
    environment: dict[str, str], train: Train, tmp_path: Path
) -> None:
    pictures = tree(tmp_path / "pictures", {"cat": 12, "dog": 12})
    words = [*_QUICK, "data=folder", f"data.root={pictures}", "tracking.figures=false"]
    folder = train(tmp_path / "out", *words, "tracking=none")
    run, output = f"run={folder.name}", f"output_dir={tmp_path / 'out'}"
    for number, words in enumerate(
        (
            ["src.select", run, output, "tracking.enabled=false"],
            ["src.push", run, output, f"to={tmp_path / 'pushed'}"],
            ["src.evaluate", run, output, "split=val"],
        )
    ):
        lacking = tmp_path / str(number)
        done = without(("matplotlib", "sklearn"), lacking, environment, *words)
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "pushed" / "README.md").is_file()
