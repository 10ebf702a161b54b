"""The pictures that are worth labelling first, with models that answer."""

from __future__ import annotations

import csv
import dataclasses
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import compose_settings
from src.config.finished import PredictSettings
from src.data.sources.folder import load
from src.data.sources.picture_paths import find_pictures
from src.machine.failures import RunFailed
from src.reporting import contact_sheets
from src.runs.finished.predict import label_pictures
from src.serving.bundle_writing import write_bundle
from tests.features.classifiers import IMAGES, classifier
from tests.serving.bundles import bundle, network_and_metadata

Label = Callable[..., str]


@pytest.fixture(autouse=True)
def empty_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheets of labels are looked at elsewhere; to draw one takes ten times as long as to label."""
    monkeypatch.setattr(contact_sheets, "label_sheet", lambda *_: Figure())


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A folder of forty digits of another size than those that the model has learnt."""
    folder = tmp_path / "new"
    folder.mkdir()
    for number, digit in enumerate(IMAGES[100:140, 0]):
        Image.fromarray(digit).resize((32, 32)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def label(tmp_path: Path) -> Label:
    """Labels a folder with a classifier, or the model given, into labels.csv."""
    overrides = ["run=x", "images=x", f"out={tmp_path / 'labels.csv'}"]
    settings = compose_settings(PredictSettings, overrides)

    def run(folder: Path, count: int | None, model: Path | None = None, **options: Any) -> str:
        if model is None:
            model = tmp_path / "model.skops"
            if not model.exists():
                classifier("model.features=[raw]").save(model)
        options = {"images": str(folder), **options}
        asked = dataclasses.replace(settings, label_next=count, **options)
        return label_pictures(model, find_pictures(asked.images), asked)

    return run


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_two_most_probable_classes_of_those_named_are_the_closest(
    label: Label, new: Path, tmp_path: Path
) -> None:
    said = label(new, 12)
    rows = rows_of(tmp_path / "labels.csv")
    gaps = {r["path"]: float(r["probability"]) - float(r["probability_2"]) for r in rows}
    named = rows_of(tmp_path / "labels_next.csv")
    assert [row["path"] for row in named] == sorted(gaps, key=gaps.__getitem__)[:12]
    answers = {row["path"]: row for row in rows}
    for row in named:
        answer = answers[row["path"]]
        assert (row["label"], row["suggested"]) == (answer["label"], answer["label_2"])
        assert float(row["score"]) == pytest.approx(1 - gaps[row["path"]], abs=1e-3)
    assert "to label next: 12 pictures" in said and str(tmp_path / "labels_next.csv") in said


def test_copies_lie_in_folders_of_their_labels_and_are_trained_on_as_the_table_is(
    label: Label, new: Path, tmp_path: Path
) -> None:
    label(new, 12)
    table, folder = tmp_path / "labels_next.csv", tmp_path / "labels_next"
    copies = sorted(folder.rglob("*.png"), key=lambda copy: copy.name)
    for place, (row, copy) in enumerate(zip(rows_of(table), copies, strict=True), start=1):
        assert copy.parent.name == row["label"]
        assert copy.name == f"{place:02}_{Path(row['path']).name}"
        assert copy.read_bytes() == Path(row["path"]).read_bytes()
    assert [*tmp_path.glob(".*")] == []
    read = load(table, tmp_path / "cache", False)
    assert read.given_parts is not None and {*read.given_parts} == {"train"}
    names = [read.class_names[target] for target in read.targets]
    assert sorted(names) == sorted(row["label"] for row in rows_of(table))


def test_of_near_duplicates_one_is_named(label: Label, new: Path, tmp_path: Path) -> None:
    label(new, 4)
    before = [row["path"] for row in rows_of(tmp_path / "labels_next.csv")]
    (tmp_path / "labels_next.csv").rename(tmp_path / "before.csv")
    (tmp_path / "labels_next").rename(tmp_path / "before")
    for path in before:  # the least certain ones, three times more: as many as are wanted now
        for side in (33, 40, 48):
            with Image.open(path) as image:
                image.resize((side, side)).save(new / f"{Path(path).stem}_{side}.png")
    label(new, 10)
    names = [Path(row["path"]).stem for row in rows_of(tmp_path / "labels_next.csv")]
    shown = [name.partition("_")[0] for name in names]
    assert (
        len(shown) == 10 and len({*shown}) == 10 and {Path(path).stem for path in before} < {*shown}
    )


def test_a_file_of_several_pages_is_named_once(label: Label, tmp_path: Path) -> None:
    network, metadata = network_and_metadata()
    metadata["settings"]["data"]["pages"] = "all"
    write_bundle(tmp_path / "bundle", network, metadata, np.zeros((3, 16, 24), np.uint8))
    (tmp_path / "new").mkdir()
    pages = [Image.fromarray(digit) for digit in IMAGES[100:110, 0]]
    pages[0].save(tmp_path / "new/first.tif", save_all=True, append_images=pages[1:5])
    pages[5].save(tmp_path / "new/second.tif", save_all=True, append_images=pages[6:])
    label(tmp_path / "new", 9, tmp_path / "bundle")
    assert len(rows_of(tmp_path / "labels.csv")) == 10
    named = [Path(row["path"]).name for row in rows_of(tmp_path / "labels_next.csv")]
    assert sorted(named) == ["first.tif", "second.tif"]


def test_fewer_pictures_than_are_wanted_are_all_named(
    label: Label, new: Path, tmp_path: Path
) -> None:
    said = label(new, 1000)
    named = {row["path"] for row in rows_of(tmp_path / "labels_next.csv")}
    assert 35 < len(named) <= 40
    assert "label_next=1000 is more than there are" in said


@pytest.mark.parametrize("taken", ["labels_next.csv", "labels_next"])
def test_what_may_have_been_corrected_is_kept(
    label: Label, new: Path, tmp_path: Path, taken: str
) -> None:
    label(new, 5)
    (tmp_path / ("labels_next" if taken == "labels_next.csv" else "labels_next.csv")).rename(
        tmp_path / "elsewhere"
    )

    def changes() -> list[int]:
        return [(tmp_path / name).stat().st_ctime_ns for name in (taken, "labels.csv")]

    before = changes()
    with pytest.raises(ConfigError, match=rf"{taken} is there already.*out"):
        label(new, 5)
    assert changes() == before
    assert "to label next" not in label(new, None)  # without it nothing is in the way


def test_it_has_to_be_said_where(label: Label, new: Path) -> None:
    with pytest.raises(ConfigError, match=r"set out=FILE\.csv too"):
        label(new, 5, out=None)


def test_sets_of_labels_have_no_folders_and_come_by_their_least_sure_label(
    label: Label, new: Path, tmp_path: Path
) -> None:
    network, metadata = network_and_metadata(link="sigmoid")
    metadata |= {"class_names": list("abcd"), "thresholds": [0.0] * 4}  # all are folders' names
    write_bundle(tmp_path / "bundle", network, metadata, np.zeros((3, 16, 24), np.uint8))
    said = label(new, 8, tmp_path / "bundle")
    assert not (tmp_path / "labels_next").exists() and "copies" not in said
    rows = rows_of(tmp_path / "labels.csv")
    probs = np.array([[float(p) for p in [*row.values()][2:]] for row in rows])
    closest = 1 - np.abs(2 * probs - 1).min(axis=1)  # to as probable as not
    order = np.argsort(-closest, kind="stable")
    named = rows_of(tmp_path / "labels_next.csv")
    near = {row["path"]: place for place, row in enumerate(named)}
    kept = [rows[place]["path"] for place in order if rows[place]["path"] in near]
    scores = [float(row["score"]) for row in named]
    assert scores == sorted(scores, reverse=True) and {*kept} == {*near}
    np.testing.assert_allclose(
        scores, sorted(closest[[r["path"] in near for r in rows]])[::-1], atol=1e-3
    )
    by_path = {row["path"]: row["labels"] for row in rows}
    assert all(row["label"] == by_path[row["path"]] for row in named)


def test_a_class_that_no_folder_can_be_called_by_leaves_the_table_alone(
    label: Label, new: Path, tmp_path: Path
) -> None:
    bundle(tmp_path / "bundle", seed=1)  # gives most pictures the class "c/d"
    said = label(new, 40, tmp_path / "bundle")
    labels = {row["label"] for row in rows_of(tmp_path / "labels_next.csv")}
    assert "c/d" in labels
    assert not (tmp_path / "labels_next").exists() and "in copies" not in said
    assert "no copies" in said and "a folder called c/d" in said


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["con", "b", "c", "d"], "a folder called con"),
        (["NUL.x", "b", "c", "d"], "a folder called NUL.x"),
        (["lpt1 .x", "b", "c", "d"], "a folder called lpt1 .x"),
        (["Hat", "hat", "HAT", "hAT"], "would be one folder"),
    ],
)
def test_folders_are_for_every_system_or_not_at_all(
    label: Label, new: Path, tmp_path: Path, names: list[str], why: str
) -> None:
    network, metadata = network_and_metadata(seed=1)
    count = len(metadata["class_names"])
    metadata["class_names"] = [*names, *"efghij"][:count]
    with torch.no_grad():  # the first two are always the most probable ones, either of them
        [*network.parameters()][-1][:2] += 20
    write_bundle(tmp_path / "bundle", network, metadata, np.zeros((3, 16, 24), np.uint8))
    said = label(new, 40, tmp_path / "bundle")
    assert why in said and not (tmp_path / "labels_next").exists()
    assert rows_of(tmp_path / "labels_next.csv")


def test_what_no_table_can_name_is_left_out_and_told(
    label: Label, new: Path, tmp_path: Path
) -> None:
    label(new, 1)
    (first,) = rows_of(tmp_path / "labels_next.csv")
    (tmp_path / "labels_next.csv").unlink()
    shutil.rmtree(tmp_path / "labels_next")
    os.rename(first["path"], os.fsencode(new) + b"/caf\xe9.png")
    said = label(new, 1)
    assert "no valid UTF-8" in said
    (second,) = rows_of(tmp_path / "labels_next.csv")
    assert second["path"].endswith(".png") and Path(second["path"]).is_file()
    only = tmp_path / "only"
    only.mkdir()
    (new / os.fsdecode(b"caf\xe9.png")).rename(only / os.fsdecode(b"caf\xe9.png"))
    said = label(only, 1, out=str(tmp_path / "only.csv"))
    assert "to label next: no picture" in said and "no valid UTF-8" in said
    assert not [*tmp_path.glob("only_next*")]


def test_a_long_name_is_cut_between_letters(label: Label, new: Path, tmp_path: Path) -> None:
    for picture in [*new.iterdir()][1:]:
        picture.unlink()
    (picture,) = new.iterdir()
    picture.rename(new / f"{'ü' * 120}x.png")  # two bytes a letter, of an odd number in all
    label(new, 1)
    (copy,) = (tmp_path / "labels_next").rglob("*.png")
    assert copy.name == f"1_{'ü' * 97}x.png"


@pytest.mark.parametrize("step", ["table", "rename", "copy"])
@pytest.mark.parametrize("full", [True, False])
def test_what_ends_half_way_leaves_nothing_that_blocks_the_next_call(
    label: Label,
    new: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    full: bool,
) -> None:
    def fail(*files: object) -> None:
        if not full:
            raise KeyboardInterrupt
        copied = (str(files[0]), None, str(files[1])) if step == "copy" else ()
        raise OSError(errno.ENOSPC, "no space", *copied)

    with monkeypatch.context() as patch:
        if step == "table":
            patch.setattr("src.runs.finished.label_next.write_labels", fail)
        elif step == "copy":
            patch.setattr(shutil, "copyfile", fail)
        else:
            rename = Path.rename
            patch.setattr(
                Path, "rename", lambda a, b: fail() if b.name == "labels_next" else rename(a, b)
            )
        with pytest.raises((RunFailed, KeyboardInterrupt)) as raised:
            label(new, 5)
    if full:
        assert f"label_next: {tmp_path / 'labels_next'} cannot be written" in str(raised.value)
    assert not [*tmp_path.glob("labels_next*")] and not [*tmp_path.glob(".*")]
    assert "to label next: 5 pictures" in label(new, 5)


def test_a_call_that_was_killed_between_copies_and_table_is_repeated(
    label: Label, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # nothing is tidied up
        raise KeyboardInterrupt

    monkeypatch.setattr("src.runs.finished.label_next.write_labels", killed)
    with pytest.raises(KeyboardInterrupt):
        label(new, 5)
    monkeypatch.undo()
    monkeypatch.setattr(contact_sheets, "label_sheet", lambda *_: Figure())
    copies, table = tmp_path / "labels_next", tmp_path / "labels_next.csv"
    assert copies.is_dir() and not table.exists()
    assert "to label next: 4 pictures" in label(new, 4)
    assert len([*copies.rglob("*.png")]) == len(rows_of(table)) == 4
    assert not [*copies.glob(".*")], "else corrected labels could be taken for unfinished ones"
    table.unlink()
    with pytest.raises(ConfigError, match="labels_next is there already"):
        label(new, 5)


def test_a_picture_that_has_gone_is_named(
    label: Label, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfile

    def gone(picture: Path, place: Path) -> None:
        picture.unlink()
        copy(picture, place)

    monkeypatch.setattr(shutil, "copyfile", gone)
    with pytest.raises(ConfigError, match=r"new/\d\d\.png cannot be read any more"):
        label(new, 5)
    assert not [*tmp_path.glob("labels_next*")]


def test_what_earlier_calls_wrote_is_not_labelled_again(
    label: Label, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(new, 10, out=str(new / "first.csv"))
    Image.new("L", (32, 32)).save(new / "first_explained.png")
    table = (new / "first.csv").read_text(encoding="utf-8")
    (new / "first.csv").write_text("\ufeff" + table.replace(",", ";"), encoding="utf-8")
    copies = {*(new / "first_next").rglob("*.png")}
    assert len(copies) == 10
    for pattern, tables in ((str(new), 2), (f"{new}/*", 2), (f"{new}/**/*.png", 0)):
        said = label(new, None, images=pattern, out=str(new.parent / "second.csv"))
        assert "40 pictures labelled" in said and "0 skipped" in said
        assert f"{10 + 2 + tables} files that predict had written" in said
    monkeypatch.chdir(new)
    for named, count in (("first_next", 10), ("first.png", 1)):
        again = label(Path(named), None, images=named, out=str(new.parent / "third.csv"))
        assert f"{count} picture" in again and "left out" not in again
    (new / "first_next.csv").unlink()  # then it is any folder of pictures
    assert "50 pictures labelled" in label(new, None, images=str(new))
    (new / "first.csv").write_text("name,weight\na,1\n", encoding="utf-8")
    assert "52 pictures labelled" in label(new, None, images=str(new))


def test_copies_are_no_class_of_the_pictures_they_lie_among(label: Label, new: Path) -> None:
    for name in ("one", "two"):
        (new / name).mkdir()
        shutil.copy(new / "00.png", new / name)
    label(new, 10, out=str(new / "first.csv"))
    found = load(new, new.parent / "cache", False)
    assert found.class_names == ("one", "two")
    assert any(problem.path == "first_next" for problem in found.problems)
    (new / "first_next.csv").unlink()
    assert "first_next" in load(new, new.parent / "cache", False).class_names


def test_the_second_class_is_suggested_however_many_are_named(
    label: Label, new: Path, tmp_path: Path
) -> None:
    label(new, 5, top_k=1)
    assert [*rows_of(tmp_path / "labels.csv")[0]] == ["path", "label", "probability"]
    named = rows_of(tmp_path / "labels_next.csv")
    assert all(row["suggested"] not in ("", row["label"]) for row in named)
