from __future__ import annotations

import os
from pathlib import Path

import pytest

from src.data.listing import find_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures in nested folders, beside what is none; the content does not matter here."""
    root = tmp_path / "my [old] pictures"
    for name in (
        "b.jpg", "a.JPG", "notes.txt", "more/c.png", "more/deep/d.webp", "cat/e.jpg",
        ".hidden.jpg", ".trash/f.jpg", "__MACOSX/g.jpg",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "folder.jpg").mkdir()
    return root


def names(found: list[str], root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in found]


def test_a_folder_means_the_pictures_below_it_in_order(folder: Path) -> None:
    found = find_pictures(str(folder))
    assert names(found, folder) == ["a.JPG", "b.jpg", "cat/e.jpg", "more/c.png", "more/deep/d.webp"]


def test_a_file_means_itself_whatever_its_ending(folder: Path) -> None:
    assert find_pictures(str(folder / "notes.txt")) == [str(folder / "notes.txt")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b.jpg"]),
        ("?.???", ["a.JPG", "b.jpg"]),
        ("*/*.png", ["more/c.png"]),
        ("[ab].*", ["a.JPG", "b.jpg"]),
        ("**", ["a.JPG", "b.jpg", "cat/e.jpg", "more/c.png", "more/deep/d.webp"]),
        ("**/*.webp", ["more/deep/d.webp"]),
        ("m*", ["more/c.png", "more/deep/d.webp"]),
    ],
)
def test_a_pattern_means_the_pictures_that_it_matches(
    folder: Path, pattern: str, expected: list[str]
) -> None:
    plain = folder.rename(folder.parent / "plain")
    found = find_pictures(f"{plain}/{pattern}")
    if pattern == "**":  # which also meets what a folder's listing leaves out
        found = [path for path in found if "__MACOSX" not in path]
    assert names(found, plain) == expected


def test_what_exists_is_no_pattern(folder: Path) -> None:
    (folder / "[ab].jpg").touch()
    assert find_pictures(str(folder / "[ab].jpg")) == [str(folder / "[ab].jpg")]


def test_nothing_to_be_found_is_said_as_it_is(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"pictures/no\.jpg does not exist$"):
        find_pictures("pictures/no.jpg")
    plain = folder.rename(folder.parent / "plain")
    with pytest.raises(ValueError, match=r"nothing matches .*\*\.bmp$"):
        find_pictures(f"{plain}/*.bmp")
    with pytest.raises(ValueError, match=r"matches 1 name, but no picture \(\.bmp, .*\)$"):
        find_pictures(f"{plain}/*.txt")
    (folder.parent / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no picture \(\.bmp, "):
        find_pictures(str(folder.parent / "empty"))
