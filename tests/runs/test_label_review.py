"""Labels that a model contradicts, from pictures in folders to a table that trains."""

from __future__ import annotations

import csv
import html
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.config.compose import compose_settings, with_pictures
from src.config.schema import RunSettings
from src.data.sources.table import list_table
from src.records.run import Predictions
from src.runs.build import build_data
from src.runs.folder import LABELS, PAGE
from src.runs.label_review import write_label_review
from src.statistics.label_errors import doubtful_labels, review_labels


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 pictures of two classes, with names that a spreadsheet would take for something else."""
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    chance = np.random.default_rng(0)
    for label, level in (("dark, deep", 40), ("light", 200)):
        for number in range(30):
            pixels = chance.integers(level, level + 40, (12, 12), dtype=np.uint8)
            path = tmp_path / "set" / label / f"=a{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "set"


def held_out(data: object, wrong: list[int], sure: float) -> Predictions:
    """A model that gives every picture its label but for these, of which it is as sure."""
    pictures = data.pictures  # type: ignore[attr-defined]
    ids = np.sort(np.concatenate([data.split.train, data.split.val]))  # type: ignore[attr-defined]
    targets = pictures.targets[ids]
    probs = np.full((len(ids), 2), 1 - sure, np.float32)
    probs[np.arange(len(ids)), targets ^ np.isin(ids, wrong)] = sure
    paths = tuple(pictures.sample_paths[i] for i in ids)
    return Predictions(ids, paths, targets, probs, tuple(pictures.class_names))


def test_the_table_is_one_to_train_from_and_the_page_shows_the_pictures(
    root: Path, tmp_path: Path
) -> None:
    data = build_data(compose_settings(RunSettings, ["data=folder", f"data.root={root}"]))
    wrong = [int(data.split.train[3]), int(data.split.val[0])]
    parts = {"val": held_out(data, wrong, 0.9)}
    doubtful = doubtful_labels(parts)
    assert {suspect.index for suspect in doubtful} == set(wrong)
    review = review_labels(parts, doubtful)
    assert review.sure == 0 and review.agreement == pytest.approx(1 - 2 / review.pictures)

    written = write_label_review(tmp_path, data, parts, doubtful)
    assert written == [tmp_path / LABELS, tmp_path / PAGE]
    source = list_table(tmp_path / LABELS)
    assert source.class_names == data.pictures.class_names and source.given_parts is not None
    assert len(source) == 60
    known = {str(root / p): i for i, p in enumerate(data.pictures.sample_paths or ())}
    for number, path in enumerate(source.sample_paths or ()):
        index = known[path]
        assert source.targets[number] == data.pictures.targets[index]
        assert index in getattr(data.split, source.given_parts[number])
    with (tmp_path / LABELS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["suggested"]) for row in rows] == [True] * 2 + [False] * 58
    assert all(row["suggested"] != row["label"] for row in rows)
    page = (tmp_path / PAGE).read_text()
    assert page.count("data:image/png;base64,") == 2 and "dark, deep" in page
    assert str(tmp_path / LABELS) in page


def test_the_table_has_what_a_run_from_fewer_pictures_left_out_and_its_order(
    root: Path, tmp_path: Path
) -> None:
    overrides = ["data=folder", f"data.root={root}", "data.train_limit=10", "data.target=ordinal"]
    data = build_data(
        compose_settings(RunSettings, [*overrides, "data.order=[light,'dark, deep']"])
    )
    assert len(data.split.train) == 10
    parts = {"val": held_out(data, [int(data.split.val[0])], 0.9)}
    write_label_review(tmp_path, data, parts, doubtful_labels(parts))
    source = list_table(tmp_path / LABELS)
    assert len(source) == 60 and source.given_parts is not None
    assert (source.given_parts == "train").sum() == 40
    page = html.unescape((tmp_path / PAGE).read_text())
    (line,) = re.findall(r"src\.train (data=[^<]*)", page)
    again = compose_settings(RunSettings, with_pictures(shlex.split(line), []))
    assert again.data.target == "ordinal"
    assert build_data(again).pictures.class_names == data.pictures.class_names


def test_it_says_how_far_the_model_can_be_believed(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = build_data(compose_settings(RunSettings, ["data=folder", f"data.root={root}"]))
    wrong = data.split.train[::3].tolist()
    parts = {"val": held_out(data, wrong, 0.97)}
    write_label_review(tmp_path, data, parts, doubtful_labels(parts))
    held = len(parts["val"].targets)
    agreed = f"{100 * (1 - len(wrong) / held):.1f} %"
    for text in (html.unescape((tmp_path / PAGE).read_text()), capsys.readouterr().out):
        assert f"{len(wrong)} labels of {held} pictures" in text
        assert f"{len(wrong)} of them with a score of 0.9 or more" in text
        assert f"The model agrees with {agreed} of the labels" in text


def test_labels_that_copies_contradict_come_first_whatever_the_model_answers(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In any part, also where the model agrees, and once where it does not."""
    shades = np.random.default_rng(1).integers(0, 200, (12, 12))
    for number, label in enumerate([*["light"] * 2, *["dark, deep"] * 5]):
        pixels = (shades + number).astype(np.uint8)
        Image.fromarray(pixels).save(root / label / f"copy{number}.png")
    data = build_data(compose_settings(RunSettings, ["data=folder", f"data.root={root}"]))
    paths = data.pictures.sample_paths or ()
    other = int(data.split.val[0])
    for wrong in ([other], [other, paths.index("light/copy0.png")]):
        parts = {"val": held_out(data, wrong, 0.9)}
        write_label_review(tmp_path, data, parts, doubtful_labels(parts))
        with (tmp_path / LABELS).open(newline="") as file:
            *copies, other_one, rest = [row for row, _ in zip(csv.DictReader(file), range(4))]
        for number, row in enumerate(copies):  # of their six copies five say so, and one does not
            assert row["path"].endswith(f"light/copy{number}.png")
            assert (row["suggested"], row["score"]) == ("dark, deep", "0.6667")
        assert float(other_one["score"]) > 0.7 and other_one["suggested"] and not rest["suggested"]
        page = html.unescape((tmp_path / PAGE).read_text())
        assert page.count("data:image/png;base64,") == 3
        for text in (page, capsys.readouterr().out):
            assert "2 labels differ from that of most pictures which are nearly equal" in text
    parts = {"val": held_out(data, [], 0.9)}
    assert len(write_label_review(tmp_path, data, parts, [])) == 2


def test_without_a_doubt_nothing_is_written(root: Path, tmp_path: Path) -> None:
    data = build_data(compose_settings(RunSettings, ["data=folder", f"data.root={root}"]))
    parts = {"val": held_out(data, [], 0.9)}
    assert write_label_review(tmp_path / "run", data, parts, doubtful_labels(parts)) == []
    assert not (tmp_path / "run").exists()


def test_an_edited_table_trains_with_the_corrected_labels_in_the_same_parts(
    root: Path, tmp_path: Path
) -> None:
    """As a person edits it in a spreadsheet: two labels, a line that goes, semicolons."""
    overrides = ["data=folder", f"data.root={root}"]
    data = build_data(compose_settings(RunSettings, overrides))
    wrong = [int(data.split.train[3]), int(data.split.val[0])]
    parts = {"val": held_out(data, wrong, 0.9)}
    write_label_review(tmp_path, data, parts, doubtful_labels(parts))
    with (tmp_path / LABELS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    gone = rows.pop()
    for row in rows[:2]:
        row["label"] = row["suggested"]
    with (tmp_path / LABELS).open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, rows[0], delimiter=";")
        table.writeheader()
        table.writerows(rows)
    again = build_data(compose_settings(RunSettings, ["data=folder", f"data.root={file.name}"]))
    before, after = (
        {
            content: (int(target), int(part))
            for content, target, part in zip(
                one.pictures.content_hashes, one.pictures.targets, one.split.parts, strict=True
            )
        }
        for one in (data, again)
    )
    (lost,) = before.keys() - after.keys()
    index = list(data.pictures.content_hashes).index(lost)
    assert (data.pictures.sample_paths or ())[index] in gone["path"]
    assert again.pictures.class_names == data.pictures.class_names
    corrected = {data.pictures.content_hashes[index] for index in wrong}
    for content, (target, part) in after.items():
        assert part == before[content][1]
        assert (target != before[content][0]) == (content in corrected)


def test_the_pages_of_a_file_have_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEOFF_CACHE", str(tmp_path / "cache"))
    chance = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.gif"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = [Image.fromarray(chance.integers(0, 256, (12, 12), np.uint8)) for _ in range(3)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    overrides = ["data=folder", f"data.root={tmp_path / 'set'}", "data.pages=all"]
    data = build_data(compose_settings(RunSettings, overrides))
    paths = data.pictures.sample_paths or ()
    doubted = next(i for i in data.split.train.tolist() if paths[i].endswith("#1"))
    parts = {"val": held_out(data, [doubted], 0.9)}
    write_label_review(tmp_path, data, parts, doubtful_labels(parts))
    with (tmp_path / LABELS).open(newline="") as file:
        first, *others = csv.DictReader(file)
    assert len(data.pictures) == 36 and len(others) == 11
    assert first["path"] == str(tmp_path / "set" / paths[doubted].removesuffix("#1"))
    assert first["suggested"] and not any(row["suggested"] for row in others)
