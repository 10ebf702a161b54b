"""Labels for picture files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from src.data.sources.digits import load
from tests.entries.conftest import Run


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a readable picture of each digit below it, and two files that are none."""
    source = load(None, tmp_path, False)
    folder = tmp_path / "my pictures [1]"
    (folder / "more").mkdir(parents=True)
    for digit in range(10):
        index = int((source.targets == digit).argmax())
        image = Image.fromarray(source.arrays[index, 0]).resize((64, 48))
        image.convert("RGB").save(folder / ("more" if digit > 4 else "") / f"{digit}.png")
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("not a picture")
    return folder


def test_every_readable_picture_gets_a_label(trained: Path, run: Run, pictures: Path) -> None:
    out = pictures.parent / "labels, all.csv"
    result = run("src.predict", f"run={trained}", f"images={pictures}", f"out={out}", "top_k=3")
    assert result.returncode == 0, result.stderr
    assert "empty.jpg" in result.stderr and "text.png" in result.stderr
    assert "10 pictures labelled" in result.stderr and "2 skipped" in result.stderr
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    assert list(rows[0]) == [
        "path", "label", "probability", "label_2", "probability_2", "label_3", "probability_3"
    ]  # fmt: skip
    right = sum(Path(row["path"]).stem == row["label"] for row in rows)
    assert right >= 8, rows
    for row in rows:
        assert float(row["probability"]) >= float(row["probability_2"])


def test_one_picture_to_standard_output(trained: Path, run: Run, pictures: Path) -> None:
    result = run("src.predict", f"run={trained}", f"images={pictures / '3.png'}")
    assert result.returncode == 0, result.stderr
    header, row = result.stdout.splitlines()
    assert header.startswith("path,label,probability") and row.endswith(tuple("0123456789"))


def test_a_folder_without_pictures_is_refused(trained: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    result = run("src.predict", f"run={trained}", f"images={tmp_path}")
    assert result.returncode == 2 and "holds no picture" in result.stderr
