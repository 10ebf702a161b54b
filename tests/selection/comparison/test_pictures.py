from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from src.config.checks import to_plain
from src.data.quality.audit import content_hash
from src.data.sources import digits, folder
from src.data.sources.source import Source
from src.data.splitting.splits import make_split
from src.runs.folder import RunFolder
from src.runs.resume_settings import read_run_settings
from src.selection.comparison.pictures import PicturesGone, read_pictures


def run_on(output_dir: Path, source: Source, words: list[str]) -> Path:
    """A run folder with the settings and the manifest of a run on these pictures."""
    run = RunFolder.create(output_dir, "cnn", source.name)
    run.config.write_text(yaml.safe_dump(to_plain(read_run_settings(words))))
    content = (
        [Path(source.file(i)).read_bytes() for i in range(len(source))]
        if source.arrays is None
        else list(source.arrays)
    )
    hashes = np.array([content_hash(one) for one in content])
    make_split(
        source.targets, hashes, seed=0, val_fraction=0.3, test_fraction=0.0,
        on_duplicates="drop", names=source.sample_paths,
    ).write(run.split)  # fmt: skip
    return run.path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for label in ("a b", "ö"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 256, (40, 60, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / label / f"{number}.png")
    return tmp_path / "own"


def test_pictures_of_arrays_are_what_they_were(tmp_path: Path) -> None:
    source = digits.load(None, tmp_path, False)
    assert source.arrays is not None
    run = run_on(tmp_path, source, ["data=digits"])
    found = read_pictures(run, [5, 1000])
    assert list(found) == [5, 1000]
    for index, picture in found.items():
        assert np.array_equal(picture, source.arrays[index])


def test_files_are_shown_in_their_own_proportions(tmp_path: Path, files: Path) -> None:
    source = folder.load(files, tmp_path, False)
    run = run_on(tmp_path, source, ["data=folder", f"data.root={files}"])
    found = read_pictures(run, [0, 11])
    assert {picture.shape for picture in found.values()} == {(3, 40, 60)}
    with Image.open(source.file(11)) as image:
        assert np.array_equal(found[11], np.asarray(image).transpose(2, 0, 1))


def test_a_changed_file_is_left_out_and_new_ones_move_nothing(tmp_path: Path, files: Path) -> None:
    source = folder.load(files, tmp_path, False)
    run = run_on(tmp_path, source, ["data=folder", f"data.root={files}"])
    before = read_pictures(run, [2, 3, 4])
    Image.new("RGB", (5, 5)).save(source.file(3))
    Path(source.file(4)).unlink()
    Image.new("RGB", (5, 5)).save(files / "a b" / "00.png")
    after = read_pictures(run, [2, 3, 4])
    assert list(after) == [2] and np.array_equal(after[2], before[2])


def test_what_is_gone_is_said(tmp_path: Path, files: Path) -> None:
    source = folder.load(files, tmp_path, False)
    run = run_on(tmp_path, source, ["data=folder", f"data.root={files}"])
    files.rename(tmp_path / "elsewhere")
    with pytest.raises(PicturesGone, match="there is no such file or folder"):
        read_pictures(run, [0])
    (tmp_path / "elsewhere").rename(files)
    for path in files.rglob("*.png"):
        path.write_bytes(b"another")
    with pytest.raises(PicturesGone, match="not those that the run was trained on"):
        read_pictures(run, [0, 1])


def test_a_lister_that_is_not_on_the_list_is_not_called(tmp_path: Path, files: Path) -> None:
    source = folder.load(files, tmp_path, False)
    run = run_on(tmp_path, source, ["data=folder", f"data.root={files}"])
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("src.data.sources.folder.load", "os.remove"))
    with pytest.raises(PicturesGone, match="allowlist"):
        read_pictures(run, [0])
    assert files.is_dir()
