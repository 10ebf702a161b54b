from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from src.machine.subprocesses import ROOT
from src.storage.files import (
    remove_leftovers,
    replacing,
    temporary_folder,
    write_atomically,
)


@pytest.mark.parametrize("content", ["zwei\r\nZeilen 图片\n", b"\x00\xff", ""])
def test_writes_text_and_bytes_as_they_are(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new folder" / "file.txt"
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(path.parent) == ["file.txt"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(os.name != "posix", reason="this system has no umask")
@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_what_a_writer_keeps_to_its_user_is_open_to_those_that_the_umask_names(
    umask: int, rights: int, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    before = os.umask(umask)
    try:
        with replacing(path) as temporary:
            save_file({"weight": np.zeros(3, np.float32)}, temporary)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == rights
    assert load_file(path)["weight"].shape == (3,)
    assert os.listdir(tmp_path) == [path.name]


def test_a_folder_is_copied_until_the_disk_refuses(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("a/b.txt", "a/__pycache__/b.pyc", "c"):
        write_atomically(source / name, bytes(2000))
    script = (
        "import pathlib, resource, signal, sys\n"
        "from src.storage.files import copy_folder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "copy_folder(*map(pathlib.Path, sys.argv[1:3]))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: copy_folder(*map(pathlib.Path, sys.argv[1::2]))\n"
        "except OSError as error: print(error.errno)\n"
    )
    whole, half = tmp_path / "whole", tmp_path / "half"
    command = [sys.executable, "-c", script, source, whole, half]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG}\n"
    copied = {file.relative_to(whole) for file in whole.rglob("*") if file.is_file()}
    assert copied == {Path("a/b.txt"), Path("c")}


def test_an_interrupted_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(FileNotFoundError), replacing(path):
        pass  # a block that writes nothing
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_readers_see_the_old_content_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
    assert path.read_text() == "new"


def test_content_reaches_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def recorded(name: str) -> Callable[..., None]:
        original = getattr(os, name)

        def call(*arguments: object) -> None:
            calls.append(name)
            original(*arguments)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, recorded(name))
    write_atomically(tmp_path / "file.txt", "new")
    assert calls[:2] == ["fsync", "replace"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = """
import os, sys
from src.storage.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""
    path = tmp_path / "last.ckpt"
    write_atomically(path, "whole")
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    (tmp_path / ".hidden").touch()
    assert len(os.listdir(tmp_path)) == 3
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".hidden", "last.ckpt"]
    assert path.read_text() == "whole"
    remove_leftovers(tmp_path / "not there")


_LEAVES = """
import os, sys, time
from pathlib import Path
from src.storage.files import replacing, temporary_folder
folder = Path(sys.argv[1])
with replacing(folder / "labels.csv") as temporary, temporary_folder(folder) as copies:
    temporary.write_text("half")
    (copies / "a copy").touch()
    print("begun", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="folders have no locks on this system")
def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_of_others(
    tmp_path: Path,
) -> None:
    write_atomically(tmp_path / "labels.csv", "whole")
    kept = {".hidden", ".0123456789abcdef0123456789abcdef.tmp.csv", "labels.csv", "other.csv"}
    for name in kept - {"labels.csv", "other.csv"}:  # the second of another machine
        (tmp_path / name).touch()
    command = [sys.executable, "-c", _LEAVES, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            write_atomically(tmp_path / "other.csv", "")
            assert len(os.listdir(tmp_path)) == len(kept) + 2, "it is being written"
        finally:
            process.kill()
    write_atomically(tmp_path / "other.csv", "")
    assert set(os.listdir(tmp_path)) == kept
    assert (tmp_path / "labels.csv").read_text() == "whole"


def test_a_temporary_folder_goes_with_its_block(tmp_path: Path) -> None:
    def interrupted() -> None:
        with temporary_folder(tmp_path) as folder:
            (folder / "kept").mkdir()
            (folder / "left").touch()
            (folder / "kept").rename(tmp_path / "kept")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == ["kept"]


def test_a_text_that_utf8_cannot_hold_is_written_with_escapes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", os.fsdecode(b"caf\xe9 \xc3\xa9"))
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == r"caf\udce9 é"
