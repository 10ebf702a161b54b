"""Pictures are decoded in little memory, and what the machine lacks is no fault of theirs."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.data.decoding import decode
from src.data.decoding.picture_files import MAX_FILE_BYTES, PictureError
from src.data.sources.archive import extract_archive
from src.machine.failures import DiskRefuses
from tests.data.pictures import decoded, encoded, opened, png, tree, write
from tests.data.sources.test_archive import pack
from tests.data.sources.test_hostile_archives import long_header

REPOSITORY = Path(__file__).parents[3]


def test_too_little_room_is_said_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "root", {"cat": 3, "dog": 3})
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    said = r"take 3\.5 kB, and .* has 1\.0 kB free: make room, .*data\.cache_dir"
    with pytest.raises(DiskRefuses, match=said):
        opened(root, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "pictures").glob("*.unfinished"))


def test_memory_stays_flat_while_decoding(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"cat": 150, "dog": 150})
    code = (
        "import resource, sys; from pathlib import Path; from tests.data.pictures import opened\n"
        "opened(Path(sys.argv[1]), Path(sys.argv[2]), image_size=int(sys.argv[3]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = {}
    for size in (8, 512):
        command = [sys.executable, "-c", code, str(root), str(tmp_path / "cache"), str(size)]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        peaks[size] = int(done.stdout)
    assert (peaks[512] - peaks[8]) * 1024 < 0.3 * 300 * 3 * 512 * 512


def test_a_file_too_large_for_a_picture_is_not_read(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", {"a": 2, "b": 2})
    with (root / "a" / "big.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(PictureError, match="the limit of a picture is 500 MB"):
        decoded(root / "a" / "big.png", (8, 8))
    with pytest.raises(ConfigError, match=r"1 of 5 .*a/big.png has 500 MB; the limit"):
        opened(root, tmp_path / "cache")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_the_machine_lacks_is_no_fault_of_what_is_read(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "root", {"a": 3, "b": 3})
    archive = pack(root, tmp_path / "x.zip")

    def lacks(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for place in (
        "quality.audit._look_at",
        "decoding.decode._converted",
        "decoding.picture_store._content",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"src.data.{place}", lacks)
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
            decoded(png(0), (8, 8))
        with pytest.raises(ConfigError, match="not enough memory"):
            opened(root, tmp_path / "cache", on_bad_image="skip")
    assert len(opened(root, tmp_path / "cache", on_bad_image="skip")) == 6


CAPPED = """
import resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
from src.config.checks import ConfigError
from tests.data.pictures import opened
try:
    print(len(opened(Path(sys.argv[1]), Path(sys.argv[2]), image_size=32, num_workers=4)))
except ConfigError as error:
    print(f"refused: {error}")
"""


def capped(root: Path, cache: Path) -> str:
    """What becomes of opening `root` in a process of 2 GB of addresses."""
    command = [sys.executable, "-c", CAPPED, str(root), str(cache)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    options: dict[str, Any] = {"cwd": REPOSITORY, "env": environment, "timeout": 300}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
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


@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are limited on Linux")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "expected"),
    [(huge_pictures, "6"), (many_rows, "refused: "), (huge_header, "refused: ")],
)
def test_two_gigabytes_are_enough_to_say_so(
    made: Callable[[Path], Path], expected: str, tmp_path: Path
) -> None:
    said = capped(made(tmp_path / "made"), tmp_path / "cache")
    assert said.startswith(expected) and len(said.splitlines()) == 1
    assert "not enough memory" not in said
