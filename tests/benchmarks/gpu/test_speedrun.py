"""The published recipe and the project's own, on a few pictures on a CPU."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.gpu import speedrun
from benchmarks.gpu.airbench import Airbench
from benchmarks.gpu.pictures import cifar10_batches
from src.config.compose import read_run_settings
from src.data.sources import cifar10
from src.runs.build import build_data

CPU = torch.device("cpu")
OVERRIDES = ("model.widths=[8]", "data.batch_size=64", "runtime=float32", "data.num_workers=1")
RATES = ("optimizer.vectors_lr_scale=1", "optimizer.head_lr_scale=1")  # of batches of 64


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an archive laid out as CIFAR-10's: 200 and 40 pictures of two shades."""
    folder, generator = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    with tarfile.open(folder / "cifar10-jpeg.tar.xz", "w:xz") as tar:
        for part, count in (("train", 200), ("test", 40)):
            for number in range(count):
                shade = (60, 190)[number % 2]
                pixels = generator.integers(shade - 50, shade + 50, (32, 32, 3)).astype(np.uint8)
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "JPEG", quality=95)
                name = f"{part}/{('dark', 'light')[number % 2]}/{number:04}.jpg"
                entry = tarfile.TarInfo(name)
                entry.size = content.tell()
                content.seek(0)
                tar.addfile(entry, content)
    monkeypatch.setenv("BAKEOFF_PHOTOS", str(folder))
    return folder


def test_the_jpeg_files_become_the_published_batches(photos: Path, tmp_path: Path) -> None:
    root = cifar10_batches(tmp_path / "root")
    assert root is not None
    source = cifar10.load(root, tmp_path / "cache", False)
    assert source.arrays is not None and source.arrays.shape == (240, 3, 32, 32)
    assert source.class_names == ("dark", "light")
    brightness = source.arrays.mean((1, 2, 3))
    assert np.array_equal(source.targets, (brightness > 125).astype(int))
    assert source.given_parts is not None and (source.given_parts == "train").sum() == 200


def test_without_the_pictures_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BAKEOFF_PHOTOS", raising=False)
    (row,) = speedrun.speedrun(CPU, tmp_path)
    assert row.met is None and "BAKEOFF_PHOTOS" in row.measured


def test_the_triangle_rises_and_falls() -> None:
    assert speedrun._triangle(0.0) == pytest.approx(0.2)
    assert speedrun._triangle(0.23) == pytest.approx(1.0)
    assert speedrun._triangle(1.0) == pytest.approx(0.07)


def test_pictures_that_went_through_jpeg_have_the_published_recipe_as_their_bar() -> None:
    ours, theirs = [(3.0, 0.905), (3.2, 0.903)], [(2.0, 0.908), (2.0, 0.906)]
    accuracy, seconds = speedrun._rows(ours, theirs, "CIFAR-10, once through JPEG")
    assert accuracy.met and accuracy.bar == "at least 90.40 %"
    assert not seconds.met and seconds.measured.startswith("1.55x (1.50 to 1.60)")
    worse, _ = speedrun._rows([(3.0, 0.9039)], theirs, "CIFAR-10, once through JPEG")
    assert not worse.met
    original, _ = speedrun._rows(ours, theirs, "CIFAR-10")
    assert not original.met and original.bar == "at least 94.00 %"


def test_the_authors_code_trains_on_these_pictures_and_is_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in laid out as airbench 0.1.8: the real one needs a GPU."""
    root = cifar10_batches(tmp_path / "root")
    overrides = ["data=cifar10", "data.train_on_val=true", f"data.root={root}"]
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    data = build_data(read_run_settings(overrides))
    package = tmp_path / "site" / "airbench"
    package.mkdir(parents=True)
    (package / "utils.py").write_text(
        "import torch\n"
        "def print_training_details(variables, is_final_entry):\n    print('a table')\n"
        "def train(run):\n"
        "    part = torch.load('cifar10/train.pt')\n"
        "    images = part['images']\n"
        "    assert images.shape == (200, 32, 32, 3) and images.dtype == torch.uint8\n"
        "    bright = images.float().mean((1, 2, 3)) > 125\n"
        "    tta_val_acc = (bright == part['labels']).float().mean().item()\n"
        "    total_time_seconds = 2.5\n"
        "    print_training_details(locals(), is_final_entry=False)\n"
        "    total_time_seconds += 1\n"
        "    print_training_details(locals(), is_final_entry=True)\n"
    )
    (package / "__init__.py").write_text(
        "import torch\nfrom . import utils\n"
        "torch.backends.cudnn.benchmark = True\n"
        "def train94(run=0):\n    return utils.train(run)\n"
    )
    monkeypatch.syspath_prepend(package.parent)
    assert str(Airbench.name()).startswith("airbench")
    before = Path.cwd(), torch.backends.cudnn.benchmark
    assert Airbench(data, tmp_path / "airbench")(1) == (2.5, 1.0)
    assert (Path.cwd(), torch.backends.cudnn.benchmark) == before
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Airbench.name() is None, "it is no dependency"


@pytest.mark.slow
def test_both_learn(photos: Path, tmp_path: Path) -> None:
    accuracy, ratio, _command = speedrun.speedrun(
        CPU, tmp_path, overrides=(*OVERRIDES, *RATES), rounds=1, widths=[8], epochs=9.9
    )
    ours, theirs = accuracy.measured.split(" %, the published recipe ")
    assert float(ours) > 90 and float(theirs.removesuffix(" %")) > 90
    assert float(ratio.measured.partition("x")[0]) > 0
