from __future__ import annotations

import csv
from pathlib import Path

from src.records.suspects import Suspect, write_suspects


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
