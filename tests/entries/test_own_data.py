"""A person's own pictures from folder to prediction: parts, bits and content as they are."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import encoded, write
from tests.data.quality.test_audit import exchanged
from tests.entries.commands import only_run
from tests.entries.conftest import Run

_NAMES = ("level", "upright")


def _picture(label: int, seed: int) -> bytes:
    """Stripes of 60 of 4096 values around 1028, level or upright, in a TIFF file of 16 bits."""
    generator = np.random.default_rng((label, seed))
    down, across = np.mgrid[:24, :24]
    wave = np.sin((across if label else down) * 0.8 + generator.uniform(0, 6))
    values = 1028 + 60 * wave + generator.normal(0, 8, (24, 24))
    return encoded(Image.fromarray(values.astype(np.uint16)), "TIFF")


@pytest.mark.slow
def test_a_set_of_12_bits_in_parts_of_other_names_is_learnt_and_predicted(
    run: Run, tmp_path: Path
) -> None:
    root = tmp_path / "scans"
    for part, count in (("training_set", 40), ("test_set", 8)):
        for label, name in enumerate(_NAMES):
            for number in range(count):
                seed = number + 100 * (part == "test_set")
                write(root / part / name / f"{number:02}.tif", _picture(label, seed))
    overrides = [
        f"data={root}",
        "model=mlp",
        "optimizer=adamw",
        "tracking=none",
    ]
    overrides += [
        "trainer.max_epochs=12",
        "tracking.figures=false",
        f"output_dir={tmp_path / 'out'}",
    ]
    result = run("src.train", *overrides)
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stdout.splitlines() if line.startswith("data: ")]
    assert said[0] == "data: 96 pictures: train 68, val 12, test 16 (given: train, test)"
    assert said[1] == "data: 2 classes: level 48, upright 48"
    assert said[2].startswith("data: all 24x24 pixels") and "more than 8 bits" in said[2]
    folder = only_run(tmp_path / "out")
    labels = tmp_path / "labels.csv"
    result = run(
        "src.predict", f"run={folder}", f"images={root / 'test_set'}", f"out={labels}",
        f"output_dir={tmp_path / 'out'}",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    with labels.open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = [row["label"] in row["path"] for row in rows]
    assert len(right) == 16 and sum(right) >= 15
    # Files exchanged under the same size and times are read again.
    for number in range(40):
        level, upright = (root / "training_set" / n / f"{number:02}.tif" for n in _NAMES)
        exchanged(level, upright)
        for path in (level, upright):
            os.utime(path, (1_600_000_000, 1_600_000_000))
    result = run("src.train", *overrides, "data.name=again")
    assert result.returncode == 0, result.stderr
    (again,) = (tmp_path / "out" / "runs").glob("*again*")
    with (again / "split.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            content = (root / row["path"]).read_bytes()
            assert hashlib.blake2b(content, digest_size=16).hexdigest() == row["content_hash"]


@pytest.mark.slow
def test_a_race_tunes_a_network_that_its_ranking_of_frozen_ones_names(
    run: Run, tmp_path: Path
) -> None:
    root = tmp_path / "stripes"
    for label, name in enumerate(_NAMES):
        for number in range(30):
            write(root / name / f"{number:02}.tif", _picture(label, number))
    overrides = ["families=[embedding,finetuned]", "study=s", f"data={root}"]
    overrides += ["model.input_size=64", "trainer.max_epochs=1", "finalists=0", "budget.trials=2"]
    overrides += ["budget.minutes=null", "cv.folds=null", "tracking=none", "workers.count=1"]
    result = run("src.sweep", *overrides, f"output_dir={tmp_path / 'out'}")
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "out" / "sweeps" / "s" / "sweep.json").read_text())
    frozen, tuned = sorted(record["trials"], key=lambda trial: trial["family"])
    assert (frozen["state"], tuned["state"]) == ("complete", "complete")
    (network,) = [one for one in tuned["overrides"] if one.startswith("model.name=")]
    ranked = {one["name"] for one in record["networks"] if one["accuracy"] is not None}
    assert len(ranked) > 1 and network.removeprefix("model.name=") in ranked
    assert f"finetuned: {network}, chosen among the frozen networks" in result.stderr
