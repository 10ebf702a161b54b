"""Commands in a locale whose encoding is not that of the names of files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.records.run import Predictions
from tests.entries.commands import complaints, complete, only_run

pytestmark = pytest.mark.slow

_LOCALE = "en_US.ISO-8859-1"
_CLASSES = ("été", "名前")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose terminal has Latin-1."""
    if os.name == "nt" or shutil.which("localedef") is None:
        pytest.skip("no other locale can be made here")
    made = [*("localedef", "-i", "en_US", "-f", "ISO-8859-1"), str(tmp_path / _LOCALE)]
    if subprocess.run(made, check=False, capture_output=True).returncode > 1:  # 1 is a warning
        pytest.skip("no other locale can be made here")
    there = {k: v for k, v in os.environ.items() if k not in ("PYTHONUTF8", "PYTHONIOENCODING")}
    there |= {"LOCPATH": str(tmp_path), "LC_ALL": _LOCALE, "OMP_NUM_THREADS": "1"}
    asked = [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"]
    if complete(asked, there).stdout.strip() == "utf-8":
        pytest.skip("this Python has UTF-8 names in every locale")
    return there | {"BAKEOFF_CACHE": str(tmp_path / "cache")}


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    for number in range(24):
        path = tmp_path / "Größe" / _CLASSES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    overrides = [f"data.root={tmp_path / 'Größe'}", "data=folder", "model=mlp", "model.hidden=[4]"]
    overrides += ["trainer.max_epochs=1", "runtime=float32", "tracking=none"]
    return [*("-m", "src.train"), *overrides, f"output_dir={tmp_path / 'ü'}"]


def test_classes_are_called_as_their_folders_are(
    words: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    done = complete([sys.executable, *words], environment, encoding="latin-1")
    assert done.returncode == 0, done.stderr
    assert "2 classes: été 12" in done.stdout, "in the encoding of the terminal"
    folder = only_run(tmp_path / "ü")
    assert Predictions.read(folder / "predictions" / "val.parquet").class_names == _CLASSES
    labels = tmp_path / "labels.csv"
    words = [f"run={folder}", f"images={tmp_path / 'Größe' / _CLASSES[1]}", f"out={labels}"]
    done = complete([sys.executable, "-m", "src.predict", *words], environment)
    assert done.returncode == 0, done.stderr
    table = labels.read_text(encoding="utf-8")
    assert f"Größe/{_CLASSES[1]}/1.png" in table


def test_who_chose_another_encoding_is_refused_a_folder_that_cannot_be_opened(
    words: list[str], environment: dict[str, str], tmp_path: Path
) -> None:
    done = complete([sys.executable, *words], environment | {"PYTHONUTF8": "0"}, encoding="latin-1")
    assert done.returncode == 2, done.stderr
    (said,) = complaints(done.stderr)
    assert "output_dir" in said and "set PYTHONUTF8=1" in said
    assert not (tmp_path / "ü").exists()
