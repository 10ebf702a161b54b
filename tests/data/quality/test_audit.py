from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data.quality import audit, findings
from src.data.quality.audit import Survey, content_hash, copies, survey
from src.data.quality.findings import Findings
from src.data.sources.folder import load
from src.data.sources.source import Source
from tests.data.pictures import age, encoded, pixels, png, tree, write


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read, as they are."""
    seen: list[str] = []
    opened = Source.open

    def noted(source: Source, index: int) -> object:
        seen.append(os.path.basename(source.file(index)))
        return opened(source, index)

    monkeypatch.setattr(Source, "open", noted)
    return seen


def surveyed(root: Path, *, check_content: bool = False) -> Survey:
    time.sleep(0.03)  # past the tick of the clock in which the files were written
    place = root.parent / "findings"
    source = load(root, root.parent, False)
    return survey(source, findings_dir=place, workers=2, check_content=check_content)


def test_a_survey_finds_sizes_hashes_and_faults(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": 1}, height=9, width=14)
    tree(root, {"b": 1}, seed=1, channels=1)
    write(root / "b" / "empty.png", b"")
    write(root / "b" / "text.png", b"text" * 20)
    found = surveyed(root)
    assert found.sizes.tolist() == [[9, 14], [12, 16], [0, 0], [0, 0]]
    assert found.bands.tolist() == [3, 1, 0, 0]
    assert found.hashes[0] == content_hash((root / "a" / "000.png").read_bytes())
    assert found.reasons.keys() == {2, 3}
    assert "empty" in found.reasons[2] and "no picture" in found.reasons[3]


def test_a_file_of_a_kind_that_is_not_read_has_a_remedy(tmp_path: Path) -> None:
    """As a table may name one; a folder's listing leaves it out by its name."""
    write(tmp_path / "a.png", png(0))
    for name in ("scan.pdf", "clip.mp4", "notes.txt"):
        write(tmp_path / name, b"text" * 20)
    lines = [f"{name},{n % 2}" for n, name in enumerate(sorted(os.listdir(tmp_path)))]
    file = tmp_path / "table.csv"
    file.write_text("\n".join(["path,label", *lines]))
    reasons = surveyed(file).reasons
    assert reasons[1].startswith("is a video: set data.frames")
    assert reasons[2] == "is no picture, or of a kind that is not read"
    assert reasons[3] == "is a PDF file: save its pages as PNG"


def test_files_are_read_once_until_they_change(tmp_path: Path, looked: list[str]) -> None:
    root = tree(tmp_path / "root", {"a": 3, "b": 2})
    write(root / "b" / "damaged.png", b"")
    first = surveyed(root)
    assert sorted(looked) == [*(f"00{n}.png" for n in range(5)), "damaged.png"]
    looked.clear()
    second = surveyed(root)
    assert looked == []
    assert (first.hashes == second.hashes).all() and (first.sizes == second.sizes).all()
    assert first.reasons == second.reasons
    # One is touched, one is changed, one comes, one goes.
    age(root / "a" / "000.png", 50)
    write(root / "a" / "001.png", png(100, height=20))
    write(root / "a" / "new.png", png(101))
    (root / "b" / "003.png").unlink()
    third = surveyed(root)
    assert sorted(looked) == ["000.png", "001.png", "new.png"]
    assert third.hashes[0] == first.hashes[0]
    assert third.hashes[1] != first.hashes[1]
    assert third.sizes.tolist() == [[12, 16], [20, 16], [12, 16], [12, 16], [12, 16], [0, 0]]
    assert third.reasons == {5: first.reasons[5]}
    looked.clear()
    assert (surveyed(root).hashes == third.hashes).all() and looked == []


def test_what_was_read_is_kept_where_reading_ends_early(
    tmp_path: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "root", {"a": 3, "b": 2})
    monkeypatch.setattr(audit, "_SAVED_EVERY_SECONDS", -1.0)
    monkeypatch.setattr(audit, "_FILES_AT_A_TIME", 1)
    usual = audit.with_progress

    def killed(items: Any, *args: Any) -> Any:
        for number, item in enumerate(usual(items, *args)):
            if number == 3:
                raise KeyboardInterrupt
            yield item

    with monkeypatch.context() as patch:
        patch.setattr(audit, "with_progress", killed)
        with pytest.raises(KeyboardInterrupt):
            surveyed(root)
    looked.clear()
    found = surveyed(root)
    assert sorted(looked) == ["003.png", "004.png"]
    assert found.hashes[0] == content_hash((root / "a" / "000.png").read_bytes())


def test_a_file_that_has_just_been_written_is_not_trusted(
    tmp_path: Path, looked: list[str]
) -> None:
    root = tree(tmp_path / "root", {"a": 1, "b": 1})
    fresh = root / "a" / "000.png"
    # Of whole seconds, as coarse file systems count: a busy machine looks within two of them, too.
    os.utime(fresh, (int(time.time()) + 2,) * 2)
    surveyed(root)
    looked.clear()
    surveyed(root)
    assert looked == ["000.png"]


def table_of(folder: Path, rows: tuple[int, ...]) -> Source:
    """The pictures x/00ROW.png by way of a CSV file of their own."""
    lines = "".join(f"x/00{row}.png,{'abba'[row]}\n" for row in rows)
    (folder / "table.csv").write_text("path,label\n" + lines)
    time.sleep(0.03)  # past the tick of the clock in which the pictures were written
    return load(folder / "table.csv", folder, False)


def exchanged(one: Path, other: Path) -> None:
    """Let two files of equal size change their content, but neither size nor time of change."""
    contents = one.read_bytes(), other.read_bytes()
    states = one.stat(), other.stat()
    assert states[0].st_size == states[1].st_size
    for path, content, state in zip((one, other), reversed(contents), states, strict=True):
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_files_of_the_same_size_and_time_of_change_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number, label in enumerate("ab"):
        write(root / label / "0.bmp", encoded(Image.fromarray(pixels(number)), "BMP"))
        age(root / label / "0.bmp", 10**8)
    first = surveyed(root)
    exchanged(root / "a" / "0.bmp", root / "b" / "0.bmp")
    assert surveyed(root).hashes.tolist() == first.hashes.tolist()[::-1]
    # Replaced by renaming: every time comes along, the number of the inode does not.
    for name in ("a", "b"):
        (root / name / "0.bmp").rename(tmp_path / name)
    (tmp_path / "a").rename(root / "b" / "0.bmp")
    (tmp_path / "b").rename(root / "a" / "0.bmp")
    assert surveyed(root).hashes.tolist() == first.hashes.tolist()


def test_checking_content_reads_all_files_and_keeps_what_other_lists_found(
    tmp_path: Path, looked: list[str]
) -> None:
    tree(tmp_path, {"x": 3})
    write(tmp_path / "x" / "003.png", b"")
    tables = [table_of(tmp_path, rows) for rows in ((0, 1, 3), (3, 2, 1))]
    for table in tables:
        survey(table, findings_dir=tmp_path / "f", workers=1)
    looked.clear()
    again = survey(tables[1], findings_dir=tmp_path / "f", workers=1, check_content=True)
    assert sorted(looked) == ["001.png", "002.png", "003.png"] and again.reasons.keys() == {0}
    looked.clear()
    assert survey(tables[0], findings_dir=tmp_path / "f", workers=1).reasons.keys() == {2}
    assert looked == []


def test_a_file_that_vanishes_is_named_and_tried_again(tmp_path: Path) -> None:
    source = load(tree(tmp_path / "root", {"a": 1, "b": 1}), tmp_path, False)
    path = tmp_path / "root" / "a" / "000.png"
    path.unlink()
    found = survey(source, findings_dir=tmp_path, workers=1)
    assert found.reasons == {0: "cannot be opened: No such file or directory"}
    assert found.hashes[0] == b""
    write(path, png(0))
    assert survey(source, findings_dir=tmp_path, workers=1).reasons == {}


def test_lists_that_share_a_folder_share_what_was_found(tmp_path: Path, looked: list[str]) -> None:
    tree(tmp_path, {"x": 4})
    for rows in ((0, 1), (2, 3)):
        survey(table_of(tmp_path, rows), findings_dir=tmp_path / "f", workers=1)
    assert len(looked) == 4
    found = survey(table_of(tmp_path, (3, 0, 1, 2)), findings_dir=tmp_path / "f", workers=1)
    assert len(looked) == 4
    expected = [content_hash(png(row)) for row in (3, 0, 1, 2)]
    assert found.hashes.tolist() == expected


@pytest.mark.parametrize("data", [b"", b"damaged", b"PK\x05\x06" + bytes(18)])
def test_damaged_findings_are_found_anew(data: bytes, tmp_path: Path, looked: list[str]) -> None:
    root = tree(tmp_path / "root", {"a": 1, "b": 1})
    first = surveyed(root)
    (file,) = (tmp_path / "findings").glob("*.npz")
    assert Findings.load(file) is not None and Findings.load(tmp_path / "missing.npz") is None
    whole = file.read_bytes()
    for content in (data, whole[:-40], whole[:200]):
        file.write_bytes(content)
        looked.clear()
        assert (surveyed(root).hashes == first.hashes).all()
        assert len(looked) == 2


def test_what_another_version_found_is_looked_at_again(
    tmp_path: Path, looked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "root", {"a": 1, "b": 1})
    with monkeypatch.context() as patch:
        patch.setattr(findings, "_VERSION", 1)
        surveyed(root)
    for files in (["000.png", "001.png"], []):
        looked.clear()
        surveyed(root)
        assert sorted(looked) == files


def test_findings_are_kept_apart_by_place_but_agree_on_content(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": 2, "b": 2})
    shutil.copytree(root, tmp_path / "copy")
    assert (surveyed(root).hashes == surveyed(tmp_path / "copy").hashes).all()
    assert len(list((tmp_path / "findings").glob("*.npz"))) == 2


def test_arrays_are_surveyed_row_by_row(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 10), np.uint8)
    arrays[3] = arrays[1]
    source = Source("set", ("a", "b"), np.array([0, 1, 0, 1]), arrays)
    found = survey(source, findings_dir=tmp_path / "none", workers=1)
    assert found.hashes[2] == content_hash(arrays[2].tobytes())
    assert found.hashes[1] == found.hashes[3] != found.hashes[0]
    assert found.sizes.tolist() == [[8, 10]] * 4
    assert (found.bands == 3).all() and not (tmp_path / "none").exists()


def test_copies_are_named_with_their_labels() -> None:
    hashes = np.array([b"x", b"y", b"x", b"x"])
    problems = copies(hashes, np.array([0, 1, 0, 1]), list("pqrs"), ("cat", "dog"))
    assert [str(problem) for problem in problems] == [
        "r: is an exact copy of p",
        "s: is an exact copy of p, but is labelled dog, not cat",
    ]
