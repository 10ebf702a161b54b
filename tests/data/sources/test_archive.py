from __future__ import annotations

import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from src.config.checks import ConfigError
from src.config.data import DataSettings
from src.data.sources import archive as module
from src.data.sources import file_notes
from src.data.sources.archive import ARCHIVE_ENDINGS, extract_archive
from src.data.sources.folder import load
from src.data.sources.listing import list_pictures
from tests.data.pictures import flip, settings_of, tree, write
from tests.data.quality.test_audit import exchanged

REPOSITORY = Path(__file__).parents[3]


def pack(folder: Path, file: Path) -> Path:
    """The files below `folder`, with no folder around them, in an archive."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
            for path in sorted(folder.rglob("*")):
                opened.write(path, path.relative_to(folder))
        return file
    kinds = {".tar": "", ".gz": "gz", ".tgz": "gz", ".xz": "xz", ".txz": "xz"}
    mode = f"w:{kinds.get(file.suffix, 'bz2')}"
    with tarfile.open(file, mode) as opened:  # type: ignore[call-overload]
        opened.add(folder, ".")
    return file


def files_below(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("ending", ARCHIVE_ENDINGS)
def test_archives_hold_what_folders_do(ending: str, tmp_path: Path) -> None:
    around = tmp_path / "packed"
    tree(around / "my pets", {"train/cat": 2, "train/dog": 1, "test/cat": 1, "test/dog": 1})
    write(around / "__MACOSX" / "my pets" / "._x.png", b"resource fork")
    write(around / "my pets" / "train" / "cat" / "nested.zip", b"PK")
    archive = pack(around, tmp_path / f"pets{ending}").rename(tmp_path / f"Pets{ending.upper()}")
    source = load(archive, tmp_path / "cache", False)
    plain = load(around / "my pets", tmp_path / "cache", False)
    assert source.class_names == plain.class_names
    assert source.targets.tolist() == plain.targets.tolist()
    assert source.given_parts is not None and plain.given_parts is not None
    assert source.given_parts.tolist() == plain.given_parts.tolist()
    assert source.sample_paths == tuple(f"my pets/{path}" for path in plain.sample_paths or ())
    for index in range(len(source)):
        with open(source.file(index), "rb") as one, open(plain.file(index), "rb") as other:
            assert one.read() == other.read()


def test_an_archive_is_extracted_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path / "pets", {"cat": 1, "dog": 1})
    archive = pack(tmp_path / "pets", tmp_path / "pets.zip")
    first = extract_archive(archive, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_members", lambda _: pytest.fail("extracted again"))
        assert extract_archive(archive, tmp_path / "cache") == first
    # Something cleaned up in the cache, or cut a file there.
    file = first / "cat" / "000.png"
    whole = file.read_bytes()
    for damage in (file.unlink, lambda: file.write_bytes(whole[:-1])):
        damage()
        assert extract_archive(archive, tmp_path / "cache") == first
        assert file.read_bytes() == whole and files_below(first) == {"cat/000.png", "dog/001.png"}
    tree(tmp_path / "pets", {"cow": 1}, seed=7)
    second = extract_archive(pack(tmp_path / "pets", archive), tmp_path / "cache")
    assert second != first
    assert files_below(second) == {"cat/000.png", "cow/007.png", "dog/001.png"}


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "pets.zip"
    info = zipfile.ZipInfo("x")
    info.filename = ""
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(info, b"abc")
    with pytest.raises(ConfigError, match="holds the path ''"):
        extract_archive(archive, tmp_path / "cache")


def test_folders_as_windows_may_write_them_are_folders(tmp_path: Path) -> None:
    archive = tmp_path / "pets.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in (("cat\\", b""), ("cat\\a.png", b"abc")):
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor would set it right
            opened.writestr(info, content)
    assert files_below(extract_archive(archive, tmp_path / "cache")) == {"cat/a.png"}


@pytest.mark.parametrize(
    ("after_local", "after_central", "value"),
    [pytest.param(6, 8, 1, id="encrypted"), pytest.param(8, 10, 99, id="unknown compression")],
)
def test_a_zip_that_cannot_be_unpacked_says_so(
    after_local: int, after_central: int, value: int, tmp_path: Path
) -> None:
    archive = pack(tree(tmp_path / "x", {"cat": 1}), tmp_path / "x.zip")
    data = bytearray(archive.read_bytes())
    for header, place in ((b"PK\x03\x04", after_local), (b"PK\x01\x02", after_central)):
        at = data.find(header)
        while at >= 0:
            data[at + place] = value
            at = data.find(header, at + 1)
    archive.write_bytes(data)
    with pytest.raises(ConfigError, match="damaged or encrypted"):
        extract_archive(archive, tmp_path / "cache")


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def cut_between_members(data: bytes) -> bytes:
    return data[: data.rindex(b"dog/") - data.rindex(b"dog/") % 512]


def with_a_damaged_header(data: bytes) -> bytes:
    at = data.rindex(b"dog/")
    return data[: at + 1] + b"x" + data[at + 2 :]


@pytest.mark.parametrize(
    ("ending", "damage"),
    [
        *((ending, cut) for ending in ARCHIVE_ENDINGS),
        (".tar", cut_between_members),
        (".tar", with_a_damaged_header),
        (".zip", lambda data: b"no archive at all"),
        (".tar", lambda data: b"no archive at all"),
        (".tar.gz", lambda data: b""),
    ],
)
def test_no_part_of_a_damaged_archive_is_taken_for_the_whole(
    ending: str, damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    archive = pack(tree(tmp_path / "x", {"cat": 9, "dog": 9}), tmp_path / f"x{ending}")
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(ConfigError, match="cannot be extracted, it is damaged"):
        extract_archive(archive, tmp_path / "cache")
    # Beside locks there may be a note of the archive's hash, once it is older than a tick.
    left = files_below(tmp_path / "cache")
    assert not [name for name in left if not name.endswith((".lock", ".json"))]


def test_an_archive_is_told_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (
        pack(tree(tmp_path / name, {"cat": 1, "dog": 1}, seed=seed), tmp_path / f"{name}.tar")
        for name, seed in (("one", 0), ("two", 5))
    )
    cache = tmp_path / "cache" / "archives"
    first = extract_archive(one, cache)
    moved = one.rename(tmp_path / "moved.tar")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_members", lambda _: pytest.fail("extracted again"))
        assert extract_archive(moved, cache) == first
    second = extract_archive(other, cache)
    exchanged(moved, other)
    assert extract_archive(moved, cache) == second
    # A file system that keeps times and inodes of what changes: only the bytes tell.
    monkeypatch.setattr(module, "file_state", lambda status: (1, 2, 3, 4))
    assert extract_archive(moved, cache) == second
    exchanged(moved, other)
    assert extract_archive(moved, cache) == second
    settings = settings_of(tmp_path / "cache", root=str(moved), check_content=True)
    assert list_pictures(settings).root == first


@pytest.fixture
def listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> tuple[DataSettings, Path]:
    """The settings of an archive whose pictures were listed, and the folder of its files."""
    archive = pack(tree(tmp_path / "pets", {"cat": 2, "dog": 2}), tmp_path / "pets.tar")
    time.sleep(0.05)  # a file that was written just now is read again
    settings = settings_of(tmp_path / "cache", root=str(archive))
    root = list_pictures(settings).root
    assert root is not None and not caplog.records
    return settings, root


def test_extracted_files_that_are_not_what_they_were_are_extracted_anew(
    listed: tuple[DataSettings, Path], caplog: pytest.LogCaptureFixture
) -> None:
    settings, root = listed
    file = root / "cat" / "000.png"
    whole = file.read_bytes()
    assert list_pictures(settings).root == root and not caplog.records
    for damage in (partial(flip, file), partial(write, root / "cat" / "planted.png", whole)):
        damage()
        assert list_pictures(settings).root == root
        assert file.read_bytes() == whole and len(files_below(root)) == 4
        assert "extracted anew" in caplog.text and len(caplog.records) == 1
        caplog.clear()


@pytest.fixture
def same_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that changes bytes without a word, or a file system that keeps times and inodes."""
    monkeypatch.setattr(file_notes, "file_state", lambda status: (1, 2, 3, 4))


def test_checking_content_reads_extracted_files_as_well(
    same_states: None, listed: tuple[DataSettings, Path], caplog: pytest.LogCaptureFixture
) -> None:
    settings, root = listed
    file = root / "dog" / "002.png"
    whole = file.read_bytes()
    flip(file)
    assert list_pictures(settings).root == root and file.read_bytes() != whole
    assert list_pictures(replace(settings, check_content=True)).root == root
    assert file.read_bytes() == whole
    assert "dog/002.png" in caplog.text and "extracted anew" in caplog.text
