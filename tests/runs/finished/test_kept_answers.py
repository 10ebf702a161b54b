"""Calls of `predict` that are ended in the middle, and the same calls after them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from src.config.compose import compose_settings
from src.config.finished import PredictSettings
from src.data.sources.picture_paths import FoundPictures, find_pictures
from src.data.sources.source import Problem
from src.reporting import contact_sheets
from src.runs.finished.kept_answers import labelled_of
from src.runs.finished.predict import label_pictures
from src.runs.finished.predict_masks import write_masks
from src.serving import masks
from src.serving.predictor import Labelled, Predictor
from src.serving.trust import JudgedAnswer
from tests.features.classifiers import IMAGES, classifier
from tests.runs.finished.test_predict_masks import bands, metadata_of

PICTURES = 430
Call = Callable[..., tuple[str, int]]


@pytest.fixture(autouse=True)
def empty_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheets, "label_sheet", lambda *_: Figure())


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A folder of pictures, of which one cannot be read."""
    folder = tmp_path / "new"
    folder.mkdir()
    for number in range(PICTURES):
        digit = IMAGES[number % len(IMAGES), 0]
        Image.fromarray(digit).save(folder / f"{number:03}.png")
    (folder / "005.png").write_bytes(b"no picture")
    return folder


def counting(
    ask: Callable[..., Iterator[Any]], ends_after: int | None
) -> tuple[Callable[..., Iterator[Any]], list[Any]]:
    """`ask`, which is interrupted after so many answers, and a list of those that it has given."""
    given: list[Any] = []

    def asked(*arguments: Any) -> Iterator[Any]:
        for answer in ask(*arguments):
            if len(given) == ends_after:
                raise KeyboardInterrupt
            given.append(answer)
            yield answer

    return asked, given


@pytest.fixture
def label(tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Labels the folder into OUT/labels.csv; returns what is said, and how many were answered."""
    classifier("model.features=[raw]").save(tmp_path / "model.skops")
    ask = Predictor.label

    def run(out: str = "out", *options: str, ends_after: int | None = None) -> tuple[str, int]:
        place = f"out={tmp_path / out / 'labels.csv'}"
        overrides = ["run=x", f"images={new}", place, *options]
        settings = compose_settings(PredictSettings, overrides)
        asked, given = counting(ask, ends_after)
        monkeypatch.setattr(Predictor, "label", asked)
        found = find_pictures(settings.images)
        return label_pictures(tmp_path / "model.skops", found, settings), len(given)

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_a_call_goes_on_and_writes_what_a_whole_one_does(
    label: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        label("out", "label_next=7", ends_after=401)
    assert "the same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "out/labels.csv").exists()
    said, answered = label("out", "label_next=7")
    heard = capsys.readouterr().err
    assert answered == PICTURES - 400 and f"going on after 400 answers of {PICTURES}" in heard
    assert heard.count("skipped") == 1, "of those that are kept as well"
    whole, every = label("whole", "label_next=7")
    assert every == PICTURES and whole == said.replace("/out/", "/whole/")
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_a_call_that_ended_early_leaves_nothing(
    label: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        label(ends_after=199)
    assert files_of(tmp_path / "out") == {} and "goes on" not in capsys.readouterr().err


@pytest.mark.parametrize("changed", ["picture", "settings", "model", "further picture"])
def test_another_call_begins_anew(label: Call, new: Path, tmp_path: Path, changed: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        label(ends_after=300)
    options = []
    if changed == "settings":
        options = ["top_k=3"]
    elif changed == "further picture":
        shutil.copyfile(new / "000.png", new / "zzz.png")
    else:
        file = new / "000.png" if changed == "picture" else tmp_path / "model.skops"
        os.utime(file, ns=(0, 0))
    assert label("out", *options)[1] == len([*new.iterdir()])
    assert sorted(os.listdir(tmp_path / "out")) == ["labels.csv", "labels.png"]


def test_masks_are_not_made_again(
    tmp_path: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = SimpleNamespace(predictor=lambda _: Predictor(bands, metadata_of()))
    monkeypatch.setattr("src.runs.candidates.choose.load_trained", lambda _: trained)
    files = sorted(map(str, new.iterdir()))

    def run(name: str, ends_after: int | None = None) -> tuple[str, int]:
        overrides = ["run=x", f"images={new}", f"out={tmp_path / name / 'found'}", "label_next=3"]
        settings = compose_settings(PredictSettings, overrides)
        asked, given = counting(masks.predicted_masks, ends_after)
        monkeypatch.setattr("src.runs.finished.predict_masks.predicted_masks", asked)
        return write_masks(tmp_path / "a/b", FoundPictures(files, []), settings), len(given)

    with pytest.raises(KeyboardInterrupt):
        run("out", ends_after=250)
    kept = tmp_path / "out/found/masks/000.png"
    before = kept.stat().st_mtime_ns
    said, answered = run("out")
    assert answered == PICTURES - 200 and kept.stat().st_mtime_ns == before
    whole, every = run("whole")
    assert every == PICTURES and whole == said.replace("/out/", "/whole/")
    ours, theirs = (files_of(tmp_path / name) for name in ("out", "whole"))
    table = "found_next.csv"
    assert ours.pop(table).replace(b"/out/", b"/whole/") == theirs.pop(table)
    assert ours == theirs and len(ours) == 2 * (PICTURES - 1) + 1


JUDGED = (
    None,
    JudgedAnswer(("a", "b"), True, 0.25, False, 1.5),
    JudgedAnswer(None, None, None, None, None),
)


@pytest.mark.parametrize(
    "answer",
    [
        *(Labelled("a.png", ("b", "a"), (0.1 + 0.2, 0.7), 0.7, 1 / 3, one) for one in JUDGED),
        Labelled(os.fsdecode(b"caf\xe9.png"), (), (), 0.9, 0.1, None, (0.1, 0.2)),
        Problem("a.png", "is no picture", "files"),
    ],
)
def test_an_answer_is_read_as_it_was(answer: Labelled | Problem) -> None:
    assert labelled_of(json.loads(json.dumps(dataclasses.asdict(answer)))) == answer
