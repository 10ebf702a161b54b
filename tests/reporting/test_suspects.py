from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from src.records.run import Predictions, Suspect
from src.reporting.style import save
from src.reporting.suspects import doubtful_labels, write_suspects
from src.reporting.suspects_sheet import suspects_sheet


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_the_table_reads_back(tmp_path: Path) -> None:
    suspects = [
        Suspect("test", 7, 'a, "b"/ü.png', "cat", "near-duplicate", 0.98765, "dog", "c/d.png"),
        Suspect("train", 1, None, "dog", "dark", 0.5),
    ]
    write_suspects(tmp_path / "suspects.csv", suspects)
    with (tmp_path / "suspects.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "part", "index", "path", "label", "kind", "score", "suggested_label", "like",
    ]  # fmt: skip
    first = ["test", "7", 'a, "b"/ü.png', "cat", "near-duplicate", "0.9877", "dog", "c/d.png"]
    assert list(rows[0].values()) == first
    assert list(rows[1].values()) == ["train", "1", "", "dog", "dark", "0.5000", "", ""]


@pytest.mark.parametrize("paths", [None, tuple(f"p{i}.png" for i in range(8))])
def test_doubtful_labels_are_named(paths: tuple[str, ...] | None) -> None:
    probs = np.tile(np.float32([[0.9, 0.1]]), (8, 1))
    probs[4:] = [0.1, 0.9]
    probs[6] = [0.97, 0.03]  # labelled 1
    targets = np.repeat([0, 1], 4)
    predictions = Predictions(np.arange(8) + 100, paths, targets, probs, ("cat", "dog"))
    (suspect,) = doubtful_labels({"val": predictions})
    assert (suspect.part, suspect.index, suspect.kind) == ("val", 106, "label")
    assert (suspect.label, suspect.suggested) == ("dog", "cat")
    assert suspect.path == (None if paths is None else "p6.png")
    assert suspect.score == pytest.approx(0.94, abs=1e-6)


def test_doubtful_labels_of_several_parts_are_ranked_together() -> None:
    probs = np.float32([[0.9, 0.1]] * 9 + [[0.1, 0.9]] * 9)
    parts = {}
    for part, sure in (("val", 0.91), ("test", 0.99)):
        own = probs.copy()
        own[17] = [sure, 1 - sure]
        parts[part] = Predictions(np.arange(18), None, np.repeat([0, 1], 9), own, ("a", "b"))
    assert [s.part for s in doubtful_labels(parts)] == ["test", "val"]


def test_the_sheet_shows_the_worst_of_every_kind(tmp_path: Path) -> None:
    suspects = [Suspect("val", i, None, "cat", "label", 0.9 - i / 100, "dog") for i in range(60)]
    suspects += [Suspect("train", 70 + i, None, "dog", "dark", 0.5) for i in range(3)]
    suspects += [Suspect("test", 80, "b/new.png", "dog", "burst", 0.8, "", "a/old.png")]
    read: list[int] = []

    def picture(index: int) -> np.ndarray:
        read.append(index)
        return np.full((3, 8, 8), index, np.uint8)

    figure = suspects_sheet(suspects, picture)
    save(figure, tmp_path / "suspects.png")
    assert sorted(read) == [*range(32), 70, 71, 72, 80]
    said = texts(figure)
    assert "Suspects (36 of 64)" in said
    assert "label 0.90" in said and "rather dog" in said and "is cat" in said
    assert said.count("dark 0.50") == 3
    assert "burst 0.80" in said and "like a/old.png" in said


def test_an_empty_sheet_says_so(tmp_path: Path) -> None:
    figure = suspects_sheet([], lambda _: np.zeros((1, 8, 8), np.uint8))
    save(figure, tmp_path / "suspects.png")
    assert texts(figure) == ["There are no suspects"]
