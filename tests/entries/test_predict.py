"""Labels for picture files."""

from __future__ import annotations

import csv
import io
import os
import shutil
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.sources.digits import load
from src.machine.text import from_csv_cell
from src.runs.candidates.choose import load_trained
from src.runs.folder import RunFolder
from tests.entries.commands import MEASURED, complaints, complete, kill, wait_until
from tests.entries.conftest import Begin, Run
from tests.runs.unsealed import unseal


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


@pytest.mark.parametrize("kind", [pytest.param("trained", marks=pytest.mark.slow), "fitted"])
def test_every_readable_picture_gets_a_label(
    request: pytest.FixtureRequest, run: Run, pictures: Path, kind: str
) -> None:
    folder, out = request.getfixturevalue(kind), pictures.parent / "labels, all.csv"
    result = run("src.predict", f"run={folder}", f"images={pictures}", f"out={out}", "top_k=3")
    assert result.returncode == 0, result.stderr
    assert "empty.jpg" in result.stderr and "text.png" in result.stderr
    assert "10 pictures labelled" in result.stderr and "2 skipped" in result.stderr
    assert f"shown in {out.with_suffix('.png')}" in result.stderr
    with Image.open(out.with_suffix(".png")) as sheet:
        assert sheet.width > 1000  # ten in a row
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


@pytest.mark.slow
def test_a_call_that_is_killed_goes_on_with_what_it_has_answered(
    trained: Path, run: Run, begin: Begin, pictures: Path, tmp_path: Path
) -> None:
    """Killed three times, from 5,000 pictures on which it takes seconds."""
    many = tmp_path / "many"
    many.mkdir()
    for number in range(5_000):
        (many / f"{number:04}.png").hardlink_to(pictures / f"more/{5 + number % 5}.png")
    overrides = [f"run={trained}", f"images={many}", "label_next=9"]
    out, blocks = tmp_path / "out", 0

    def whole_blocks() -> int:
        return sum(len(file.read_bytes().splitlines()) for file in out.glob(".*/blocks.jsonl"))

    for _ in range(3):
        command = begin("src.predict", *overrides, f"out={out / 'labels.csv'}")
        wait_until(lambda before=blocks: whole_blocks() > before + 1, command)
        kill(command)
        blocks = whole_blocks()
        assert blocks < 25
        assert not (out / "labels.csv").exists()
    done = run("src.predict", *overrides, f"out={out / 'labels.csv'}")
    assert done.returncode == 0, done.stderr
    assert f"going on after {200 * blocks:,} answers of 5,000" in done.stderr
    plain = run("src.predict", *overrides, f"out={tmp_path / 'plain' / 'labels.csv'}")
    assert plain.returncode == 0, plain.stderr
    found, expected = (
        {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*.*")}
        for place in (out, tmp_path / "plain")
    )
    assert found == expected and len(found) == 3 + 5  # of near-duplicates one copy


def test_what_is_served_answers_as_what_was_trained(
    trained: Path, fitted: Path, pictures: Path, environment: dict[str, str]
) -> None:
    """And without Lightning, whose import takes longer than all the rest, or torch for features."""
    checkpoints = [RunFolder.open(folder).chosen_checkpoint() for folder in (fitted, trained)]
    files = sorted(pictures.rglob("[0-9].png"))
    ask = (
        "import sys; from pathlib import Path\n"
        "from src.runs.finished.predict import predictor_of\n"
        f"for checkpoint in {[str(one) for one in checkpoints]!r}:\n"
        "    predictor = predictor_of(Path(checkpoint), 4)\n"
        "    answers = predictor.answer(map(Path, sys.argv[1:])).tolist()\n"
        "    print({'pytorch_lightning', 'torch'} & set(sys.modules), answers)"
    )
    done = complete([sys.executable, "-c", ask, *map(str, files)], environment)
    expected = [load_trained(one).predictor(4).answer(files).tolist() for one in checkpoints]
    heavy = [set[str](), {"torch"}]
    assert done.stdout == "".join(f"{h} {one}\n" for h, one in zip(heavy, expected)), done.stderr


def test_what_the_network_looked_at_is_shown_beside_the_labels(
    trained: Path, run: Run, pictures: Path
) -> None:
    figures = trained / "figures"
    with Image.open(figures / "val_class_maps.png") as of_the_run:
        assert of_the_run.width > 1000  # six in a row
    folder = pictures.rename(pictures.parent / "explain")
    overrides = [f"run={trained}", f"images={folder}", "explain=true"]
    for _ in range(2):  # the second time the sheets of the first lie among the pictures
        result = run("src.predict", *overrides, f"out={folder}/a.csv")
        assert result.returncode == 0, result.stderr
        assert "10 pictures labelled" in result.stderr and "a_explained.png" in result.stderr
    with Image.open(folder / "a_explained.png") as sheet:
        assert sheet.width > 1300 and sheet.height > 900  # two pictures in a row of six
        colours = np.asarray(sheet.convert("HSV"))[:, :, 1]
    assert (colours > 60).mean() > 0.05  # the pictures themselves are grey
    (folder / "a.csv").unlink()
    result = run("src.predict", *overrides, f"out={folder}/a.csv")
    assert result.returncode == 2 and "is there already" in result.stderr


def test_one_picture_to_standard_output(trained: Path, run: Run, pictures: Path) -> None:
    result = run("src.predict", f"run={trained}", f"images={pictures / '3.png'}")
    assert result.returncode == 0, result.stderr
    header, row = result.stdout.splitlines()
    assert header.startswith("path,label,probability") and row.endswith(tuple("0123456789"))


def test_a_pattern_and_its_own_earlier_sheet(trained: Path, run: Run, pictures: Path) -> None:
    folder = pictures.rename(pictures.parent / "plain")
    for _ in range(2):  # the second time the sheet of the first lies among the pictures
        result = run(
            "src.predict", f"run={trained}", f"images={folder}/**/*.png", f"out={folder}/a.csv"
        )
        assert result.returncode == 0, result.stderr
        assert "10 pictures labelled" in result.stderr and "1 skipped" in result.stderr
    assert (folder / "a.png").is_file()


def test_nothing_but_bad_pictures(trained: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").write_text("nothing to see")
    result = run("src.predict", f"run={trained}", f"images={tmp_path}", f"out={tmp_path}/o.csv")
    assert result.returncode == 2 and "nothing can be read" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "o.png").exists()


def test_a_sheet_does_not_replace_a_picture(trained: Path, run: Run, pictures: Path) -> None:
    before = (pictures / "3.png").read_bytes()
    result = run("src.predict", f"run={trained}", f"images={pictures}", f"out={pictures}/3.csv")
    assert result.returncode == 2 and "is there already" in result.stderr
    assert (pictures / "3.png").read_bytes() == before
    result = run("src.predict", f"run={trained}", f"images={pictures}", f"out={pictures}/new.png")
    assert result.returncode == 2 and "out is" in result.stderr


@pytest.mark.parametrize(
    "module", [pytest.param("src.evaluate", marks=pytest.mark.slow), "src.predict"]
)
def test_a_model_that_was_tampered_with_is_refused(
    fitted: Path, run: Run, tmp_path: Path, module: str
) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "runs" / fitted.name))
    models = [*folder.rglob("*.skops")]
    assert len(models) == 2, "the checkpoint, and what is served"
    for model in models:
        with zipfile.ZipFile(model) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        schema = parts["schema.json"].replace(b"src.features.rbf", b"subprocess")
        parts["schema.json"] = schema.replace(b"RbfMachine", b"Popen")
        assert parts["schema.json"].count(b"Popen")
        with zipfile.ZipFile(model, "w") as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    unseal(folder)  # who changes a model may take its seal away too
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    overrides = [f"images={tmp_path / 'a.png'}"] if module == "src.predict" else []
    result = run(module, f"run={folder}", *overrides)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "holds subprocess.Popen, so it is not loaded" in result.stderr
    assert len(complaints(result.stderr)) == 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(
    trained: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    source = tmp_path / "source.png"
    Image.new("RGB", (640, 480), "white").save(source)  # 0.9 MB once decoded, 1.8 GB in all
    peaks = []
    for count in (300, 2000):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        for index in range(count):
            (folder / f"{index}.png").hardlink_to(source)
        overrides = [f"run={trained}", f"images={folder}", f"out={tmp_path}/o.csv"]
        command = [sys.executable, "-m", "src.predict", *overrides]
        done = complete([sys.executable, "-c", MEASURED, *command], environment)
        assert done.returncode == 0 and f"{count:,} pictures labelled" in done.stderr
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 100_000  # KiB


@pytest.mark.slow
@pytest.mark.parametrize("console", ["ascii", "cp1252"])
def test_hostile_names_and_sizes_on_a_poor_console(
    trained: Path, environment: dict[str, str], tmp_path: Path, console: str
) -> None:
    new = tmp_path / "新 new"
    new.mkdir()
    Image.new("RGB", (9900, 9900)).save(new / "a large.png", compress_level=1)  # 98 megapixels
    Image.new("RGBA", (9900, 9900)).save(new / "b large.png", compress_level=1)
    small = new / "c\x1b]0;taken\x07\nerror: forged.png"
    Image.new("RGB", (9, 9)).save(small)
    (new / "d.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (new / os.fsdecode(b"e\xe9.jpg")).write_text("no picture")
    command = [sys.executable, "-m", "src.predict", f"run={trained}", f"images={new}"]
    poor = environment | {"PYTHONIOENCODING": console, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = complete([sys.executable, "-c", MEASURED, *command], poor, text=False)
    assert done.returncode == 0, done.stderr
    said = done.stderr.decode("ascii")
    assert "3 pictures labelled" in said and "2 skipped" in said and "\x1b" not in said
    # With the extra `heic` the file is read, and found to hold nothing.
    broken = "d.heic: is no picture" if find_spec("pillow_heif") else "is HEIC"
    assert broken in said and r"e\xe9.jpg: is no picture" in said
    table, _, peak = done.stdout.decode("utf-8").rpartition("peak")
    assert "\x1b" not in table and "\x07" not in table
    paths = [from_csv_cell(row[0]) for row in csv.reader(io.StringIO(table, newline=""))]
    assert paths[1:] == [f"{new}/a large.png", f"{new}/b large.png", str(small)]
    assert int(peak) < 2_000_000  # KiB


@pytest.mark.slow
def test_a_full_disk_behind_the_answers_is_said(
    trained: Path, run: Run, environment: dict[str, str], pictures: Path
) -> None:
    overrides = [f"run={trained}", f"images={pictures}"]
    result = run("src.predict", *overrides, "out=/dev/full")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "error: out: /dev/full cannot be written: No space left on device."
    )
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "src.predict", *overrides]
        ended = complete(command, environment, stdout=full)
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        "error: standard output cannot be written: No space left on device."
    )
