"""Sets whose classes differ only where 8 bits, three colours or the whole range show nothing."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.data.decoding.test_dicom import dicom
from tests.data.pictures import write
from tests.entries.commands import summary_of
from tests.entries.conftest import Run, Train

pytestmark = pytest.mark.slow

SIDE, BANDS = 32, 7
TRAIN, VAL = 320, 200
CNN = (
    *("model=cnn", "augment=none", "runtime=float32", "tracking=none", "data.batch_size=32"),
    *("trainer.max_epochs=12", "data=folder", "data.mirror_ok=false", "tracking.figures=false"),
)
HANDCRAFTED = ("model=handcrafted", "tracking=none", "data=folder", "tracking.figures=false")


def blocks(generator: np.random.Generator, most: int) -> NDArray[np.int64]:
    """Plain squares of 8x8 pixels (SIDE, SIDE), alike in every class."""
    coarse = generator.integers(0, most, (SIDE // 8, SIDE // 8))
    return np.kron(coarse, np.ones((8, 8), np.int64))


def stripes(generator: np.random.Generator, label: int) -> NDArray[np.int64]:
    """0 or 1 (SIDE, SIDE), in lines across (label 0) or down (label 1)."""
    phase = int(generator.integers(4))
    lines = ((np.arange(SIDE) + phase) // 2 % 2)[:, None] + np.zeros(SIDE, np.int64)
    return lines if label == 0 else lines.T


def low_byte(label: int, seed: int) -> NDArray[np.uint16]:
    """16 bits, of which the upper 8 are the same everywhere but in a dead and a hot pixel.

    These two stretch the range of the set to all of 16 bits, as those of sensors do.
    """
    generator = np.random.default_rng(seed)
    low = 64 + 127 * stripes(generator, label) + generator.integers(0, 48, (SIDE, SIDE))
    picture = (256 * 117 + low).astype(np.uint16)
    picture.flat[generator.choice(SIDE * SIDE, 2, replace=False)] = 0, 65535
    return picture


def one_band(label: int, seed: int) -> NDArray[np.uint8]:
    """Seven bands (BANDS, SIDE, SIDE), the sixth of which is brighter in the second class."""
    generator = np.random.default_rng(seed)
    picture = generator.normal(125, 30, (BANDS, SIDE, SIDE))
    picture[5] += 40 * label - 20
    return picture.clip(0, 255).astype(np.uint8)


def within_window(label: int, seed: int) -> NDArray[np.int16]:
    """Air, bone and, between them, stripes of 40 units about 40."""
    generator = np.random.default_rng(seed)
    kinds = blocks(generator, 4)
    tissue = 20 + 40 * stripes(generator, label) + generator.integers(-5, 5, (SIDE, SIDE))
    return np.select([kinds == 0, kinds == 1], [-1000, 3000], tissue).astype(np.int16)


def folder_of(root: Path, kind: str) -> Path:
    for number in range(TRAIN + VAL):
        label, part = number % 2, "train" if number < TRAIN else "val"
        place = root / kind / part / "ab"[label]
        if kind == "bands":
            stream = io.BytesIO()
            tifffile.imwrite(
                stream,
                one_band(label, number),
                photometric="minisblack",
                planarconfig="separate",
                metadata=None,
            )
            write(place / f"{number:03}.tif", stream.getvalue())
        else:
            window = {"WindowCenter": 40, "WindowWidth": 100}
            data = dicom(within_window(label, number), **window)
            write(place / f"{number:03}.dcm", data)
    return root / kind


def arrays_of(root: Path) -> Path:
    numbers = {"train": range(TRAIN), "val": range(TRAIN, TRAIN + VAL)}
    arrays: dict[str, NDArray[np.uint16]] = {}
    for part, some in numbers.items():
        arrays[f"{part}_images"] = np.stack([low_byte(n % 2, n) for n in some])
        arrays[f"{part}_labels"] = np.array([n % 2 for n in some])
    eight_bits = np.rint(arrays["train_images"] / 257)
    assert set(np.unique(eight_bits)) == {0, 117, 255}
    np.savez(root / "low_byte.npz", **arrays)  # type: ignore[arg-type]
    return root / "low_byte.npz"


@pytest.mark.parametrize(
    "overrides", [CNN, (*HANDCRAFTED, "model.features=[hog]")], ids=["cnn", "hog"]
)
def test_the_low_byte_of_16_bits_is_learnt(
    overrides: tuple[str, ...], train: Train, tmp_path: Path
) -> None:
    run_dir = train(tmp_path / "out", *overrides, f"data.root={arrays_of(tmp_path)}")
    assert summary_of(run_dir)["metrics"]["val/accuracy"] >= 0.99


@pytest.mark.parametrize(
    "overrides", [CNN, (*HANDCRAFTED, "model.features=[colour]")], ids=["cnn", "colour"]
)
def test_one_band_of_seven_is_learnt_and_predicted(
    overrides: tuple[str, ...], train: Train, run: Run, tmp_path: Path
) -> None:
    root, out = folder_of(tmp_path, "bands"), tmp_path / "labels.csv"
    run_dir = train(tmp_path / "out", *overrides, f"data.root={root}")
    assert summary_of(run_dir)["metrics"]["val/accuracy"] >= 0.99
    asked = (f"run={run_dir}", f"out={out}")
    result = run("src.predict", *asked, f"images={root / 'val'}")
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == VAL
    right = [Path(row["path"]).parent.name == row["label"] for row in rows]
    assert np.mean(right) == pytest.approx(summary_of(run_dir)["metrics"]["val/accuracy"])
    odd = tmp_path / "odd" / "a.npy"
    odd.parent.mkdir()
    np.save(odd, np.zeros((SIDE, SIDE, 4), np.uint8))
    result = run("src.predict", *asked, f"images={odd}")
    assert result.returncode == 2
    assert "has 4 bands, where pictures of 7 are taken" in result.stderr


def test_what_lies_within_a_window_is_learnt(train: Train, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    run_dir = train(tmp_path / "out", *CNN, f"data.root={folder_of(tmp_path, 'window')}")
    assert summary_of(run_dir)["metrics"]["val/accuracy"] >= 0.99
