"""Files of a run, of the cache and of a champion that were changed or moved behind its back."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.data.pictures import encoded, flip, write
from tests.data.sources.test_archive import pack
from tests.entries.commands import only_run
from tests.entries.conftest import Run

pytestmark = pytest.mark.slow

_QUICK = ("model=mlp", "model.hidden=[8]", "runtime=float32", "trainer.max_epochs=1")
_QUICK += ("tracking.figures=false",)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures without compression, in which each byte is one of a pixel."""
    root = tmp_path_factory.mktemp("pictures")
    for label, shade in (("dark", 60), ("light", 180)):
        for number in range(12):
            picture = Image.new("RGB", (16, 16), (shade, shade + number, 2 * number))
            write(root / "pets" / label / f"{number:02}.bmp", encoded(picture, "BMP"))
    return pack(root / "pets", root / "pets.tar")


@pytest.fixture(scope="module")
def finished(run: Run, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run on them."""
    output_dir = tmp_path_factory.mktemp("finished")
    overrides = ["data=folder", f"data.root={archive}", "tracking=none", f"output_dir={output_dir}"]
    done = run("src.train", *overrides, *_QUICK)
    assert done.returncode == 0, done.stderr
    return output_dir


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """The folder of the same run elsewhere, to be changed."""
    shutil.copytree(finished, tmp_path / "out")
    return only_run(tmp_path / "out")


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that was refused."""
    assert done.returncode == 2, done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "fault of Bakeoff" not in done.stderr
    return errors[0]


def test_a_changed_split_and_a_deleted_seal_are_told_by_compare(run: Run, folder: Path) -> None:
    overrides = ["src.compare", f"output_dir={folder.parents[1]}", "tracking.enabled=false"]
    split = (folder / "split.csv").read_text()
    swapped = (
        split.replace("\nval,", "\nTMP,").replace("\ntest,", "\nval,").replace("\nTMP,", "\ntest,")
    )
    assert swapped != split
    (folder / "split.csv").write_text(swapped)
    assert "split.csv has other contents since it was sealed" in refusal(run(*overrides))
    done = run(*overrides, "changed=use")
    assert done.returncode == 0 and "split.csv has other contents" in done.stdout + done.stderr
    (folder / "split.csv").write_text(split)
    assert run(*overrides).returncode == 0
    (folder / "seal.json").unlink()
    assert "its seal.json is gone" in refusal(run(*overrides))


def test_a_checkpoint_that_is_a_text_is_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    for file in (folder / "checkpoints").glob("*.ckpt"):
        file.write_text("hello\n" * 100)
    picture = write(tmp_path / "a.png", encoded(Image.new("RGB", (16, 16)), "PNG"))
    output = f"output_dir={folder.parents[1]}"
    predicted = run("src.predict", f"run={folder}", f"images={picture}", "changed=use", output)
    assert ".ckpt" in refusal(predicted)
    evaluated = run("src.evaluate", f"run={folder}", "split=val", "changed=use", output)
    assert ".ckpt" in refusal(evaluated)
    (folder / "seal.json").unlink()
    (folder / "summary.json").unlink()  # as of a run that was killed
    assert "last.ckpt" in refusal(run("src.train", f"resume={folder}", output))


def test_extracted_pictures_that_were_flipped_are_extracted_anew(
    run: Run, archive: Path, folder: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    cache = Path(environment["BAKEOFF_CACHE"])
    found = list((cache / "archives").glob("*/content/*/*.bmp"))
    assert len(found) >= 24
    for file in found[: len(found) * 2 // 3]:
        flip(file)
    again = ["data=folder", f"data.root={archive}", "tracking=none", f"output_dir={tmp_path}/two"]
    done = run("src.train", *again, *_QUICK)
    assert done.returncode == 0 and "extracted anew" in done.stderr
    same = [(one / "split.csv").read_bytes() for one in (folder, only_run(tmp_path / "two"))]
    assert same[0] == same[1]


def test_a_picture_with_a_side_of_millions_is_named(run: Run, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "images"
    write(place / "tall.png", encoded(Image.new("L", (1, 2_000_000)), "PNG"))
    write(place / "usual.png", encoded(Image.new("RGB", (16, 16)), "PNG"))
    done = run("src.predict", f"run={folder}", f"images={place}", f"out={tmp_path}/labels.csv")
    assert done.returncode == 0, done.stderr
    assert "tall.png" in done.stderr and "the limit of a side is 65,535" in done.stderr
    assert "usual.png" in (tmp_path / "labels.csv").read_text()


def test_a_champion_is_found_where_its_folder_went(run: Run, folder: Path, tmp_path: Path) -> None:
    chosen = run(
        "src.select", f"run={folder}", f"output_dir={folder.parents[1]}", "tracking.enabled=false"
    )
    assert chosen.returncode == 0, chosen.stderr
    moved = shutil.move(folder.parents[1], tmp_path / "moved")
    images = f"images={write(tmp_path / 'a.png', encoded(Image.new('RGB', (16, 16)), 'PNG'))}"
    done = run("src.predict", "run=champion", images, f"output_dir={moved}")
    assert done.returncode == 0, done.stderr
    assert run("src.verify", f"output_dir={moved}").returncode == 0
    os.rename(Path(moved) / "runs" / folder.name, tmp_path / folder.name)
    said = refusal(run("src.predict", "run=champion", images, f"output_dir={moved}"))
    assert folder.name in said and "src.select" in said
