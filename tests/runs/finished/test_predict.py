from __future__ import annotations

import csv
import dataclasses
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.console import on_plain_output
from src.config.finished import PredictSettings
from src.data.sources.picture_paths import FoundPictures, find_pictures
from src.machine.failures import DiskRefuses
from src.machine.text import from_csv_cell
from src.runs.finished.predict import label_pictures
from src.serving.predictor import Predictor
from tests.features.classifiers import IMAGES, classifier
from tests.serving.bundles import CLASSES, bundle


@pytest.fixture
def label(tmp_path: Path) -> Callable[..., str]:
    """Labels files, or a listing, with a classifier on features; `out` is labels.csv by default."""
    overrides = ["run=x", "images=x", "top_k=2"]
    settings = compose_settings(PredictSettings, overrides)
    classifier("model.features=[raw]").save(tmp_path / "model.skops")

    def run(found: list[str] | FoundPictures, out: Path | None = tmp_path / "labels.csv") -> str:
        listing = found if isinstance(found, FoundPictures) else FoundPictures(found)
        asked = dataclasses.replace(settings, out=None if out is None else str(out))
        return label_pictures(tmp_path / "model.skops", listing, asked)

    return run


def picture(path: Path | bytes) -> str:
    Image.fromarray(IMAGES[0, 0]).save(os.fsdecode(path), "PNG")
    return os.fsdecode(path)


def rows_of(out: Path) -> list[list[str]]:
    with out.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_whatever_a_file_is_called_it_has_a_row_that_can_be_read(
    label: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # so that a name begins its cell
    names = [
        "plain.png", "two\nlines.png", 'quo"ted, comma.png', "=1+1.png", "-x.png", "'=1.png",
        "\x1b[2Jclear.png", "tab\t.png", "猫.png", "a" * 250 + ".png",
    ]  # fmt: skip
    found = [picture(Path(name)) for name in names]
    found.append(picture(b"caf\xe9.png"))
    said = label(found)
    assert said.startswith("11 pictures labelled")
    paths = [from_csv_cell(row[0]) for row in rows_of(tmp_path / "labels.csv")[1:]]
    assert paths == [*names, r"caf\xe9.png"]


def test_what_has_no_row_is_named_and_counted(
    label: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where the extra heic is missing
    new = tmp_path / "new"
    new.mkdir()
    picture(new / "a.png")
    (new / "b.png").write_bytes(b"text")
    (new / "c\nskipped d.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (new / ".hidden.png").touch()
    for _ in range(2):  # the second time the answers of the first lie among the pictures
        said = label(find_pictures(str(new)), new / "labels.csv")
        assert "1 picture labelled" in said and "2 skipped; 1 hidden" in said
        skipped = capsys.readouterr().err.splitlines()
        assert [line.split(": ")[1] for line in sorted(skipped)] == [
            "is no picture, or of a kind that is not read",
            "is HEIC, which needs the package pillow-heif (make install EXTRAS=heic, or pip "
            "install pillow-heif)",
        ]
        assert len(rows_of(new / "labels.csv")) == 2


def test_masks_beside_pictures_are_not_labelled_and_one_line_says_so(
    label: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    for name in ("a.png", "b.png", "a_mask.png", "b_mask.png"):
        picture(new / name)
    said = label(find_pictures(str(new)), tmp_path / "labels.csv")
    assert "2 pictures labelled" in said and "0 skipped" in said
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("left out: 2 files with the name of another picture, taken for its mask")


@pytest.mark.parametrize(
    ("out", "overrides"),
    [
        ("folder", "is a folder"),
        ("file/labels.csv", "cannot be written"),
        ("a" * 300 + ".csv", "cannot be written: File name too long"),
        ("/dev/full", "cannot be written: No space left on device"),
        ("/proc/labels.csv", "cannot be written"),
        ("old.jpg", "is a picture by its name"),
        ("a picture", "is a picture by its name or content"),
        ("link.csv", "is a picture by its name"),
        ("sorted", r"has no ending.* out=.*sorted\.csv"),
    ],
)
def test_a_place_that_cannot_be_written_is_named_and_nothing_is_lost(
    label: Callable[..., str], tmp_path: Path, out: str, overrides: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    found = [picture(tmp_path / "a picture"), picture(tmp_path / "old.jpg")]
    (tmp_path / "link.csv").symlink_to(tmp_path / "old.jpg")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match=f"^out: .*{overrides}"):
        label(found, tmp_path / out)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_dash_names_no_file() -> None:
    with pytest.raises(ConfigError, match=r"out is '?-'?: without out the rows go to standard out"):
        compose_settings(PredictSettings, ["run=x", "images=x", "out=-"])


def test_a_contact_sheet_goes_over_no_picture(label: Callable[..., str], tmp_path: Path) -> None:
    own = picture(tmp_path / "labels.png")
    before = Path(own).read_bytes()
    table = tmp_path / "labels.csv"
    table.write_text("weight\n12\n", encoding="utf-8")  # it is another program's
    with pytest.raises(ConfigError, match=r"labels\.png.*is there already"):
        label([own])
    assert Path(own).read_bytes() == before and table.read_text(encoding="utf-8") == "weight\n12\n"
    Path(own).unlink()
    for _ in range(2):  # the second time over its own
        label([picture(tmp_path / "digit.png")])
    assert Path(own).is_file()


def test_an_earlier_table_stays_until_the_new_one_is_whole(
    label: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("earlier")
    found = [picture(tmp_path / f"{index}.png") for index in range(3)]
    original = Predictor.label

    def killed(self: Predictor, files: Iterable[Path], *further: Any) -> Iterator[object]:
        yield next(original(self, files, *further))
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, "label", killed)
    with pytest.raises(KeyboardInterrupt):
        label(found)
    monkeypatch.setattr(Predictor, "label", original)
    assert table.read_text() == "earlier"
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ConfigError, match="nothing can be read"):
        label([str(tmp_path / "text.png")])
    assert table.read_text() == "earlier"
    label(found)
    assert len(rows_of(table)) == 4
    assert not list(tmp_path.glob(".*"))


def test_a_model_that_answers_no_numbers_labels_nothing(
    label: Callable[..., str], tmp_path: Path
) -> None:
    damaged = classifier("model.features=[raw]")
    damaged.model.calibration.shift[:] = np.nan
    damaged.save(tmp_path / "model.skops")
    with pytest.raises(ConfigError, match="run: the model answers with what is no number"):
        label([picture(tmp_path / "a.png")])
    assert not (tmp_path / "labels.csv").exists()


def test_rows_for_a_program_are_utf8_and_those_for_a_person_plain_text(
    label: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [picture(tmp_path / "猫\x1b[2J.png")]
    for terminal in (False, True):
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
        monkeypatch.setattr(out, "isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setattr(sys, "stdout", out)
        on_plain_output(lambda: bool(label(found, None)))()
        out.flush()
        assert isinstance(out.buffer, io.BytesIO)
        written = out.buffer.getvalue()
        # What a terminal would obey is written in letters for a program as well.
        expected = b"\\u732b\\x1b[2J" if terminal else "猫\\x1b[2J".encode()
        assert expected in written


def test_a_disk_that_fills_meanwhile_is_named(
    label: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.csv").write_text("earlier")
    monkeypatch.setattr(
        "src.storage.files._flush", lambda path: os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    )
    with pytest.raises(DiskRefuses) as raised:
        label([picture(tmp_path / "a.png")])
    said = str(raised.value)
    assert said.startswith(f"out: {tmp_path}/labels.csv cannot be written: there is no room ")
    assert str(tmp_path) in said.partition("no room")[2]
    assert (tmp_path / "labels.csv").read_text() == "earlier"


def named(cell: str) -> list[str]:
    """The names in a cell."""
    return next(csv.reader([cell], delimiter=";"), [])


def test_labels_of_any_name_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("path", "labels", "black;white", "most_probable")
    settings = {"data": {"target": "multi"}}
    metadata = {"class_names": names, "channels": 1, "image_size": [4, 4], "settings": settings}
    probs = np.array([[0.9, 0.2, 0.8, 0.1]], np.float32)
    trained = SimpleNamespace(predictor=lambda _: Predictor(lambda x: probs[: len(x)], metadata))
    monkeypatch.setattr("src.runs.candidates.choose.load_trained", lambda _: trained)
    overrides = ["run=x", "images=x", f"out={tmp_path / 'a.csv'}", "top_k=3"]
    asked = compose_settings(PredictSettings, overrides)
    label_pictures(tmp_path / "a" / "b", FoundPictures([picture(tmp_path / "in.png")]), asked)
    header, row = rows_of(tmp_path / "a.csv")
    assert len(set(header)) == len(header) == 7
    found = dict(zip(header, row, strict=True))
    assert found["path"] == str(tmp_path / "in.png") and found["class path"] == "0.900000"
    for column, wanted in (
        ("labels", ["path", "black;white"]),
        ("most_probable", ["path", "black;white", "labels"]),
    ):
        assert named(found[column]) == wanted
    assert found["class most_probable"] == "0.100000" and found["class labels"] == "0.200000"


def test_the_most_probable_of_several_labels_are_named_when_asked_for(tmp_path: Path) -> None:
    bundle(tmp_path / "model", link="sigmoid")
    files = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 24, 3), np.uint8)
        files.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(pixels).save(files[-1])
    out = tmp_path / "labels.csv"

    def rows(*overrides: str) -> list[dict[str, str]]:
        overrides = ("run=x", "images=x", f"out={out}", *overrides)
        asked = compose_settings(PredictSettings, overrides)
        label_pictures(tmp_path / "model", FoundPictures(files), asked)
        with out.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    assert list(rows()[0]) == ["path", "labels", *CLASSES]
    least = dict(zip(CLASSES, (0.2, 0.5, 0.55, 0.7), strict=True))  # of the bundle
    for row in rows("top_k=3"):
        order = sorted(CLASSES, key=lambda name: -float(row[name]))
        assert named(row["most_probable"]) == order[:3]
        reached = [name for name in order if float(row[name]) >= least[name]]
        assert named(row["labels"]) == reached


@pytest.mark.parametrize(
    ("link", "said"), [("corn", "loss=corn cnn answers whether"), ("softmax", "in cnn no value")]
)
def test_why_nothing_can_be_explained_is_true_of_the_model(
    link: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = {"settings": {"model": {"name": "cnn"}}, "link": link}
    trained = SimpleNamespace(metadata=metadata, class_maps=lambda: None)
    monkeypatch.setattr("src.runs.candidates.choose.load_trained", lambda _: trained)
    overrides = ["run=some", f"images={tmp_path}", "explain=true", "out=a.csv"]
    settings = compose_settings(PredictSettings, overrides)
    with pytest.raises(ConfigError, match=f"explain: .*{said}.*leave explain=true out"):
        label_pictures(
            tmp_path / "model.ckpt", FoundPictures([str(tmp_path / "a.png")], []), settings
        )


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("checkpoints/ensemble.json", "leave explain=true out"),
        ("exports/int8", "leave variant out"),
    ],
)
def test_maps_that_no_such_model_has_are_refused_before_it_is_read(
    model: str, advice: str, tmp_path: Path
) -> None:
    (tmp_path / "exports" / "int8").mkdir(parents=True)  # with nothing in it that could be read
    overrides = ["run=some", f"images={tmp_path}", "explain=true", "out=a.csv"]
    settings = compose_settings(PredictSettings, overrides)
    with pytest.raises(ConfigError, match=f"^explain: .*{advice}"):
        label_pictures(tmp_path / model, FoundPictures([str(tmp_path / "a.png")], []), settings)
