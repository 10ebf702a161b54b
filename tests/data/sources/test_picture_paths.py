from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from src.data.sources.picture_paths import FoundPictures, each_picture, find_pictures, without_masks


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


def names(found: FoundPictures, root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in found.pictures]


def reasons(found: FoundPictures, root: Path) -> dict[str, str]:
    return {os.path.relpath(one.path, root): one.reason for one in found.left_out}


def test_a_folder_means_the_pictures_below_it_in_order(folder: Path) -> None:
    found = find_pictures(str(folder))
    assert names(found, folder) == ["a.JPG", "b.jpg", "cat/e.jpg", "more/c.png", "more/deep/d.webp"]


def test_a_file_means_itself_whatever_its_ending_or_name(folder: Path) -> None:
    (folder / "[ab].jpg").touch()
    for name in ("notes.txt", "[ab].jpg"):
        assert find_pictures(str(folder / name)).pictures == [str(folder / name)]


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
        found.pictures = [path for path in found.pictures if "__MACOSX" not in path]
    assert names(found, plain) == expected


def test_nothing_to_be_found_is_said_as_it_is(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"pictures/no\.jpg does not exist$"):
        find_pictures("pictures/no.jpg")
    with pytest.raises(ValueError, match="is an address"):
        find_pictures("https://example.org/no.jpg")
    plain = folder.rename(folder.parent / "plain")
    (folder.parent / "many.TAR.gz").write_bytes(b"any")
    with pytest.raises(ValueError, match="is an archive: unpack it"):
        find_pictures(str(folder.parent / "many.TAR.gz"))
    (folder.parent / "a.pdf").write_bytes(b"%PDF-1.7")
    for path in (f"{folder.parent}/a.pdf", f"{folder.parent}/*.pdf"):
        with pytest.raises(ValueError, match=r"a\.pdf:? is a PDF file: save its pages as PNG$"):
            find_pictures(path)
    with pytest.raises(ValueError, match=r"nothing matches .*\*\.bmp$"):
        find_pictures(f"{plain}/*.bmp")
    with pytest.raises(
        ValueError, match=r"matches 1 name, but no picture \(\.apng, .*\): .*notes\.txt: is empty"
    ):
        find_pictures(f"{plain}/*.txt")
    (folder.parent / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no picture \(\.apng, .*\)$"):
        find_pictures(str(folder.parent / "empty"))


def test_every_file_is_a_picture_or_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "new"
    (root / "sub").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "a.jfif", "JPEG")
    Image.new("RGB", (8, 8)).save(root / "b.avif")
    Image.new("RGB", (8, 8)).save(root / "no ending", "PNG")
    Image.new("RGB", (8, 8)).save(os.fsencode(root) + b"/caf\xe9.png")
    (root / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    (root / "notes.txt").write_text("nothing to see")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    os.mkfifo(root / "pipe.jpg")
    (root / "sub" / "up").symlink_to(root, target_is_directory=True)
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(root)  # the path of a socket may have some hundred bytes
        listening.bind("s.jpg")
        found = find_pictures(str(root))
    pictures = {"a.jfif", "b.avif", "IMG_1.HEIC", "no ending", os.fsdecode(b"caf\xe9.png")}
    assert set(names(found, root)) == pictures
    named = reasons(found, root)
    assert "is no picture" in named.pop("notes.txt")
    assert named.pop("gone.jpg") == "is a link to nothing"
    assert "symbolic links" in named.pop("loop.jpg")
    assert "is a pipe" in named.pop("pipe.jpg") and "is a socket" in named.pop("s.jpg")
    assert named.pop("sub/up") == "is a link to a folder that is listed already"
    assert not named


def test_a_folder_behind_a_link_is_listed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").touch()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "there")
    found = find_pictures(str(tmp_path / "here"))
    assert names(found, tmp_path / "here") == ["linked/a.png"] and not found.left_out


def test_what_is_no_file_is_called_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, said in [
        ("/dev/zero", "is a device"),
        (f"{tmp_path}/pipe", "is a pipe"),
        (f"{tmp_path}/loop", "symbolic links"),
        (f"{tmp_path}/{'a' * 300}", "name too long"),
    ]:
        with pytest.raises(ValueError, match=f"^{path} .*{said}"):
            find_pictures(path)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("", ["a.JPG", "b.jpg", "more/c.webp"]),
        ("/", ["a.JPG", "b.jpg", "more/c.webp"]),
        ("/**", ["a.JPG", "b.jpg", "more/c.webp"]),
        ("/*.*", ["a.JPG", "b.jpg"]),
        ("/*_mask.png", ["a_mask.png", "b_mask.png"]),
        ("/a_mask.png", ["a_mask.png"]),
        ("/more/masks", ["more/masks/c.png"]),
    ],
)
def test_masks_beside_their_pictures_are_left_out_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str, expected: list[str]
) -> None:
    files = ("a.JPG", "a_mask.png", "b.jpg", "b_mask.png", "more/c.webp", "more/masks/c.png")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path.parent)
    for root in (tmp_path, Path(tmp_path.name)):
        asked = f"{root}{images}"
        found, remark = without_masks(find_pictures(asked), asked)
        assert names(found, root) == expected
        assert ("3 files" in remark) == (len(expected) == 3)
        given = [os.path.relpath(path, root) for path in each_picture(asked)]
        assert given == expected
    monkeypatch.chdir(tmp_path)
    inside = without_masks(find_pictures("*.*"), "*.*")[0]
    assert inside.pictures == ["a.JPG", "b.jpg"]


def test_a_picture_in_two_formats_is_no_mask_but_where_masks_were_learnt(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg", "b.png"):
        (tmp_path / name).touch()
    found = find_pictures(str(tmp_path))
    assert without_masks(found, str(tmp_path)) == (found, "")
    without, remark = without_masks(found, str(tmp_path), by_kind=True)
    assert names(without, tmp_path) == ["a.jpg", "b.jpg"] and remark
