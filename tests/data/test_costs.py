"""Pictures, tables and archives that would cost too much, and machines that lack something."""

from __future__ import annotations

import errno
import gzip
import io
import os
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.data import DataSettings
from src.data.decoding import decode, decoded
from src.data.decoding.decode import MAX_FILE_BYTES, PictureError, decode_picture
from src.data.sources import archive as module
from src.data.sources import table
from src.data.sources.archive import extract_archive
from src.data.sources.folder import load
from src.data.sources.listing import list_pictures
from tests.data.pictures import encoded, opened, png, tree, write
from tests.data.quality.test_audit import exchanged
from tests.data.sources.test_archive import files_below, member, pack, tar_of

REPOSITORY = Path(__file__).parents[2]
_NUMBERS = [errno.EMFILE, errno.ENFILE, errno.ENOMEM]


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
    settings = _settings(moved, tmp_path / "cache")
    assert list_pictures(settings).root == first


def _settings(root: Path, cache: Path) -> DataSettings:
    from src.config.compose import compose_settings
    from src.config.schema import RunSettings

    words = [f"data.root={root}", f"data.cache_dir={cache}", "data.check_content=true"]
    return compose_settings(RunSettings, ["data=folder", *words]).data


def test_a_file_of_the_cache_that_is_cut_is_extracted_again(tmp_path: Path) -> None:
    archive = pack(tree(tmp_path / "x", {"cat": 1, "dog": 1}), tmp_path / "x.zip")
    (file,) = extract_archive(archive, tmp_path / "cache").glob("cat/*.png")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    extract_archive(archive, tmp_path / "cache")
    assert file.read_bytes() == whole


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": 2, "b": 2})
    with (root / "a" / "big.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(PictureError, match="the limit of a picture is 500 MB"):
        decode_picture(root / "a" / "big.png", image_size=(8, 8), channels=1)
    with pytest.raises(ConfigError, match=r"1 of 5 .*a/big.png has 500 MB; the limit"):
        opened(root, tmp_path / "cache")


def test_tables_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, {"x": 4})
    lines = "".join(f"x/00{row}.png,{'ab'[row % 2]}\n" for row in range(4))
    file = write(tmp_path / "x.csv", f"path,label\n{lines}".encode())
    monkeypatch.setattr(table, "_MAX_ROWS", 3)
    with pytest.raises(ConfigError, match="names more than 3 pictures"):
        load(file, tmp_path, False)
    with file.open("ab") as stream:
        stream.truncate(10**9)
    with pytest.raises(ConfigError, match="1,000 MB"):
        load(file, tmp_path, False)


@pytest.mark.parametrize("number", _NUMBERS)
def test_what_the_machine_lacks_is_no_fault_of_what_is_read(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "root", {"a": 3, "b": 3})
    archive = pack(root, tmp_path / "x.zip")

    def lacks(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for place in (decode, decoded):
        with monkeypatch.context() as patch:
            patch.setattr(place, "_converted" if place is decode else "_surveyed", lacks)
            with pytest.raises(ConfigError, match=r"too many files|not enough memory"):
                opened(root, tmp_path / "cache", on_bad_image="skip")
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZipFile", lacks)
        with pytest.raises(ConfigError, match=r"too many files|not enough memory"):
            extract_archive(archive, tmp_path / "cache")
    assert len(opened(root, tmp_path / "cache", on_bad_image="skip")) == 6


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory when reading image file")])
def test_too_little_memory_is_no_fault_of_a_picture(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "root", {"a": 3, "b": 3})
    whole = decode._converted

    def short(image: Image.Image, *args: object, **options: object) -> object:
        if image.size == (16, 12):
            raise error
        return whole(image, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(decode, "_converted", short)
        with pytest.raises(MemoryError):
            decode_picture(png(0), image_size=(8, 8), channels=1)
        with pytest.raises(ConfigError, match="not enough memory"):
            opened(root, tmp_path / "cache", on_bad_image="skip")
    assert len(opened(root, tmp_path / "cache", on_bad_image="skip")) == 6


def test_a_full_or_closed_cache_is_named_and_remembers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = tree(tmp_path / "root", {"a": 3, "b": 3}), tmp_path / "cache"
    reasons = {
        errno.ENOSPC: "there is no room",
        errno.EDQUOT: "your quota",
        errno.EACCES: "you may not write",
        errno.EROFS: "mounted read-only",
    }
    for number, reason in reasons.items():
        with monkeypatch.context() as patch:

            def refuse(handle: int, number: int = number) -> None:
                raise OSError(number, os.strerror(number))

            patch.setattr(os, "fsync", refuse)
            with pytest.raises(ConfigError, match=reason) as caught:
                opened(root, cache, on_bad_image="skip")
            assert str(cache) in str(caught.value)
    store = opened(root, cache, on_bad_image="skip")
    assert len(store) == 6 and store.problems == ()


CAPPED = """
import resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from src.config.checks import ConfigError
from tests.data.pictures import opened
try:
    print(len(opened(Path(sys.argv[1]), Path(sys.argv[2]), image_size=32, workers=4)))
except ConfigError as error:
    print(f"refused: {error}")
"""


def capped(root: Path, cache: Path) -> str:
    """What becomes of opening `root` in a process of 2 GB of addresses."""
    command = [sys.executable, "-c", CAPPED, str(root), str(cache)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def huge_pictures(folder: Path) -> Path:
    """Six pictures of 98 megapixels; as many bytes as 1.8 GB of RGB."""
    for number in range(6):
        image = Image.new("RGB", (9900, 9900), (number * 40, 10, 200))
        write(folder / "ab"[number % 2] / f"{number}.png", encoded(image, "PNG", compress_level=1))
    return folder


def many_rows(folder: Path) -> Path:
    tree(folder, {"x": 2})
    path = folder / "many.csv"
    with path.open("w") as file:
        file.write("path,label\n")
        for _ in range(2_100):
            file.write("x/000.png,cat\n" * 1000)
    return path


def huge_header(folder: Path) -> Path:
    return write(folder / "x.tar.gz", long_header(tarfile.XHDTYPE, 3 << 30))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are limited on Linux")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (huge_pictures, "6"),
        (many_rows, "refused: "),
        (huge_header, "refused: "),
    ],
)
def test_two_gigabytes_are_enough_to_say_so(
    made: Callable[[Path], Path], expected: str, tmp_path: Path
) -> None:
    said = capped(made(tmp_path / "made"), tmp_path / "cache")
    assert said.startswith(expected) and len(said.splitlines()) == 1
    assert "not enough memory" not in said
