"""Archives that lead out of their folder, fill the disk or ask for gigabytes of memory."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from src.config.checks import ConfigError
from src.data.sources import archive as module
from src.data.sources.archive import extract_archive
from src.machine.failures import DiskRefuses
from tests.data.pictures import tree, write
from tests.data.sources.test_archive import files_below, pack


def tar_of(file: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(file, "w") as opened:
        for member in members:
            opened.addfile(member, io.BytesIO(bytes(member.size)))
    return file


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


BACKSLASHES = "cat\\..\\..\\..\\escaped.png"


@pytest.mark.parametrize(
    "name", ["../escaped.png", "cat/../../escaped.png", "/tmp/escaped.png", BACKSLASHES, "C:/x.png"]
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_paths_that_lead_out_are_refused(name: str, kind: str, tmp_path: Path) -> None:
    archive = tmp_path / f"evil.{kind}"
    if kind == "tar":
        tar_of(archive, member("cat/a.png", size=3), member(name, size=3))
    else:
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("cat/a.png", b"abc")
            opened.writestr(name, b"abc")
    with pytest.raises(ConfigError, match="leads out of the archive"):
        extract_archive(archive, tmp_path / "deep" / "cache")
    assert not [name for name in files_below(tmp_path) if "escaped" in name or "a.png" in name]


@pytest.mark.parametrize(
    "evil",
    [
        member("cat", tarfile.SYMTYPE, "/etc"),
        member("cat", tarfile.SYMTYPE, "../.."),
        member("cat", tarfile.LNKTYPE, "../../secret"),
        member("cat", tarfile.FIFOTYPE),
        member("cat", tarfile.CHRTYPE),
    ],
    ids=["absolute link", "relative link", "hard link", "pipe", "device"],
)
def test_links_and_devices_are_refused(evil: tarfile.TarInfo, tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "evil.tar", evil, member("cat/passwd", size=3))
    with pytest.raises(ConfigError, match="is a link or a device"):
        extract_archive(archive, tmp_path / "cache")
    assert not any(path.is_symlink() or path.name == "cat" for path in tmp_path.rglob("*"))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("cat")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as opened:
        opened.writestr(info, "/etc")
    with pytest.raises(ConfigError, match="is a link or a device"):
        extract_archive(tmp_path / "evil.zip", tmp_path / "cache")


def test_a_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FREE_OF_RATIO_BYTES", 2 << 20)
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as opened:
        for number in range(4):
            opened.writestr(f"cat/{number}.bmp", bytes(4 << 20))
    assert bomb.stat().st_size < 40_000
    with pytest.raises(ConfigError, match="made to fill a disk"):
        extract_archive(bomb, tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".bmp"]
    packed = pack(tree(tmp_path / "x", {"cat": 1}), tmp_path / "x.tar.xz")
    with tarfile.open(packed, "w:xz") as tar:
        tar.addfile(member("cat/0.bmp", size=16 << 20), io.BytesIO(bytes(16 << 20)))
    with pytest.raises(ConfigError, match="made to fill a disk"):
        extract_archive(packed, tmp_path / "cache")


def test_too_many_files_and_too_little_room_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tree(tmp_path / "x", {"cat": 4, "dog": 1}), tmp_path / "x.zip")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MAX_FILES", 4)
        with pytest.raises(ConfigError, match="more than 4 files"):
            extract_archive(archive, tmp_path / "cache")
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(DiskRefuses, match=r"more than the 1.0 kB that are free.*cache_dir"):
            extract_archive(archive, tmp_path / "cache")
    assert len(files_below(extract_archive(archive, tmp_path / "cache"))) == 5


def long_header(kind: bytes, size: int) -> bytes:
    """A tar file, compressed, whose first member has `size` bytes of name or of pax records."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    stream = io.BytesIO()
    with gzip.open(stream, "wb", 1) as packed:
        packed.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(size >> 20):
            packed.write(bytes(1 << 20))
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE]
)
def test_a_header_of_megabytes_is_refused(kind: bytes, tmp_path: Path) -> None:
    file = write(tmp_path / "x.tar.gz", long_header(kind, 8 << 20))
    assert file.stat().st_size < 100_000
    with pytest.raises(ConfigError, match="a header of many megabytes"):
        extract_archive(file, tmp_path / "cache")


@pytest.mark.parametrize("first", [True, False])
def test_a_list_of_holes_without_an_end_is_refused(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The format 1.0 of sparse files, whose list of holes stands before the data."""
    monkeypatch.setattr(module, "_MAX_HEADER_BYTES", 1 << 16)
    file = tmp_path / "x.tar.gz"
    holes = b"30000\n" + b"0\n" * 70_000
    info = member("a.png", size=len(holes))
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with tarfile.open(file, "w:gz", format=tarfile.PAX_FORMAT, compresslevel=1) as packed:
        if not first:
            packed.addfile(member("b.png", size=3), io.BytesIO(b"abc"))
        packed.addfile(info, io.BytesIO(holes))
    with pytest.raises(ConfigError, match="a header of many megabytes"):
        extract_archive(file, tmp_path / "cache")


def test_long_names_are_taken_and_absurd_ones_refused(tmp_path: Path) -> None:
    for format in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = tmp_path / f"long{format}.tar"
        with tarfile.open(file, "w", format=format) as packed:
            for folder in ("a" * 200, "ü" * 100):
                packed.addfile(member(f"{folder}/{'b' * 150}.png", size=3), io.BytesIO(b"abc"))
        assert len(files_below(extract_archive(file, tmp_path / "cache"))) == 2
    for name in ("/".join("a" * 100), "a/" * 1200 + "b", "a" * 2000):
        deep = tar_of(tmp_path / "deep.tar", member(name))
        with pytest.raises(ConfigError, match="longer or deeper") as caught:
            extract_archive(deep, tmp_path / "cache")
        assert len(str(caught.value)) < 600
    for names in (["cat", "cat/a.png"], ["c" * 300]):
        odd = tar_of(tmp_path / "odd.tar", *map(member, names))
        with pytest.raises(ConfigError, match="at a place where no file can be"):
            extract_archive(odd, tmp_path / "cache")


def test_folders_count_as_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_FILES", 20)
    folders = tar_of(tmp_path / "x.tar", *(member(f"f{n}", tarfile.DIRTYPE) for n in range(21)))
    with pytest.raises(ConfigError, match="more than 20 files"):
        extract_archive(folders, tmp_path / "cache")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for number in range(21):
            packed.writestr(f"f{number}/", b"")
    with pytest.raises(ConfigError, match="more than 20 files"):
        extract_archive(tmp_path / "x.zip", tmp_path / "cache")


def test_members_are_not_kept_in_memory(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "x.tar.gz", "wb", 1) as file:
        file.write(member("a", tarfile.DIRTYPE).tobuf() * 10_000 + bytes(1024))
    tracemalloc.start()
    try:
        extract_archive(tmp_path / "x.tar.gz", tmp_path / "cache")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000  # a kilobyte a member otherwise
