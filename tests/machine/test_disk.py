"""What a disk refuses, by cause: the sentence names the place and fits the cause."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.config.checks import ConfigError
from src.machine.disk import named_file, refusal, refusal_of_folder
from src.machine.failures import DiskRefuses, explained
from src.storage.cache import cached
from src.storage.files import write_atomically

_CAUSES = {
    errno.ENOSPC: "no room",
    errno.EDQUOT: "quota",
    errno.EFBIG: "ulimit -f",
    errno.EROFS: "read-only",
    errno.EACCES: "may not write",
    errno.EPERM: "may not write",
    errno.EIO: "fails",
    errno.ENOTDIR: "a file is where a folder has to be",
    errno.EISDIR: "is a folder, where a file has to be",
    errno.EMFILE: "too many files are open",
    errno.ENOLCK: "has no locks",
}


@pytest.mark.parametrize("number", _CAUSES)
def test_each_cause_has_a_sentence_of_its_own_that_names_the_place(
    number: int, tmp_path: Path
) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "deep" / "file"))
    said = refusal(error)
    assert said is not None and _CAUSES[number] in said and str(tmp_path) in said
    assert ("make room" in said) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert [cause for cause in set(_CAUSES.values()) if cause in said] == [_CAUSES[number]]


def test_a_folder_that_may_not_be_looked_into_is_named_and_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, "closed", str(tmp_path / "theirs" / "file"))

    (tmp_path / "theirs").mkdir()
    known, may = os.stat, os.access
    theirs = tmp_path / "theirs"
    monkeypatch.setattr(
        os, "stat", lambda path, **o: closed() if theirs in Path(path).parents else known(path, **o)
    )
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != theirs and may(path, mode))
    with pytest.raises(PermissionError):
        (theirs / "file").exists()
    for name in ("file", "deep/file"):
        said = refusal(OSError(errno.EACCES, os.strerror(errno.EACCES), str(theirs / name)))
        assert said is not None and said.startswith(f"you may not look into {theirs}: ")


def test_of_a_disk_that_is_mounted_read_only_no_temporary_file_is_named(tmp_path: Path) -> None:
    known, temporary = tmp_path / "labels.csv", tmp_path / ".1f.tmp.csv"
    known.touch()
    for file, named in ((known, known), (temporary, tmp_path)):
        said = refusal(OSError(errno.EROFS, "read-only", str(file)))
        assert said is not None and said.startswith(f"{named} lies on")


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), FileNotFoundError(2, "x", "/y")])
def test_what_is_no_refusal_of_a_disk_has_none(error: OSError) -> None:
    assert refusal(error) is None


def test_a_disk_without_inodes_is_told_from_one_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.ENOSPC, "no space", str(tmp_path / "file"))
    true = os.statvfs(tmp_path)
    said = refusal(error)
    assert (
        said is not None
        and "its disk ran full" in said
        and "are free" not in said
        and "free inodes" not in said
    )
    values = [*true[:7], 0, *true[8:]]  # f_favail
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    said = refusal(error)
    assert said is not None and "no free inodes" in said and "too many files" in said


@pytest.mark.parametrize(
    ("needed", "said"),
    [(30_000, "some 30.0 kB are needed;"), (40_000_000, "some 40.0 MB are needed;")],
)
def test_what_is_needed_is_told_where_there_is_less(
    needed: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.ENOSPC, "no space", str(tmp_path / "file"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=8192))
    assert said in (refusal(error, needed_bytes=needed) or "")
    # A file's structure comes to what is known to be needed.
    assert "kB are needed" not in (refusal(error, needed_bytes=4096) or "")


def test_a_limit_on_the_size_of_files_is_met_for_real(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys, pathlib\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from src.machine.failures import DiskRefuses, explained\n"
        "from src.storage.files import write_atomically\n"
        "try:\n"
        "    with explained(pathlib.Path(sys.argv[1])):\n"
        "        write_atomically(pathlib.Path(sys.argv[1]) / 'f', bytes(2000))\n"
        "except DiskRefuses as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "may not become that large" in done.stdout and str(tmp_path) in done.stdout
    assert not list(tmp_path.iterdir())


def test_no_room_for_temporary_files_is_met_for_real() -> None:
    script = (
        "import pathlib, resource, signal, tempfile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from src.machine.failures import DiskRefuses, explained\n"
        "try:\n"
        "    with explained(pathlib.Path('/elsewhere')), tempfile.TemporaryDirectory(): pass\n"
        "except DiskRefuses as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert tempfile.gettempdir() in done.stdout and "set TMPDIR" in done.stdout


def test_a_full_device_is_met_for_real() -> None:
    said = "no room for another file in /dev"
    with (
        pytest.raises(DiskRefuses, match=said),
        explained(Path("/elsewhere")),
        named_file("/dev/full"),
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_a_file_where_the_cache_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ConfigError, match="a file is where a folder has to be") as caught:
        _make(tmp_path / "cache" / "pictures" / "x")
    assert "room" not in str(caught.value) and "data.cache_dir" in str(caught.value)


def test_a_cache_that_is_mounted_read_only_is_told_and_not_to_make_room(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no file system can be mounted here")
    script = (
        "from pathlib import Path; import sys; from tests.machine.test_disk import _make\n"
        "try: _make(Path(sys.argv[1]) / 'pictures' / 'x')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    mount = 'mount -t tmpfs -o ro tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, script],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    assert done.stdout.startswith("ConfigError the pictures cannot be kept: "), done.stderr
    assert "mounted read-only" in done.stdout and "room" not in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_of_somebody_else_is_told_and_not_to_make_room(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="may not write to") as caught:
        _make(tmp_path / "cache" / "x")
    assert "room" not in str(caught.value)


def _make(folder: Path) -> None:
    cached(folder, lambda path: {}, what="the pictures")


def test_a_write_that_fails_names_the_file_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    said = f"another file in {tmp_path}/deep: "
    with pytest.raises(DiskRefuses, match=said), explained(Path("/elsewhere")):
        write_atomically(tmp_path / "deep" / "file", "content")


def test_a_copy_names_where_to_and_a_disk_with_room_is_not_said_to_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying = refusal(OSError(errno.ENOSPC, "no space", "/from/file", None, str(tmp_path / "to")))
    assert copying is not None and f"another file in {tmp_path}: " in copying
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5 << 30))
    said = refusal(OSError(errno.ENOSPC, "no space"), tmp_path)
    assert said is not None and "on a disk; that of" in said and "temporary files" in said


def test_a_folder_is_known_to_be_closed_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = tmp_path / "theirs" / "outputs" / "mine"
    assert refusal_of_folder(wanted) is None and not wanted.parent.exists()
    (tmp_path / "theirs").mkdir()
    may = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: not (Path(path).name == "theirs" and mode & os.W_OK) and may(path, mode),
    )
    reason = refusal_of_folder(wanted)
    assert reason is not None and f"you may not write to {tmp_path / 'theirs'}:" in reason
    assert refusal_of_folder(tmp_path / "ours") is None
    assert list(tmp_path.iterdir()) == [tmp_path / "theirs"]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_folder_whose_name_is_no_utf_8_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/outputs"))
    reason = refusal_of_folder(place)
    assert reason is not None and r"caf\xe9" in reason and not place.parent.exists()


def test_a_file_in_the_place_of_a_folder_is_found_out_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wanted in (tmp_path / "file", tmp_path / "file" / "within" / "it"):
        reason = refusal_of_folder(wanted)
        assert reason is not None and reason.startswith(f"{tmp_path / 'file'} cannot be made")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there").mkdir()
    assert refusal_of_folder(tmp_path / "link" / "new") is None
