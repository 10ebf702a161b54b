from __future__ import annotations

import os
import socket
from pathlib import Path

from src.machine.regular_files import file_fault, odd_file


def test_what_is_no_plain_file_is_told_before_it_is_opened(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    faults = {
        "pipe.csv": "is a pipe, and no file",
        "link.csv": "is a device, and no file",
        "socket": "is a socket, and no file",
        ".": "is a folder, and no file",
        "nowhere": "is a link to nothing",
        "gone": "does not exist",
        "x" * 300: "cannot be opened: File name too long",
    }
    assert {name: file_fault(tmp_path / name) for name in faults} == faults


def test_files_are_bounded(tmp_path: Path) -> None:
    path, link = tmp_path / "large.csv", tmp_path / "link.csv"
    with path.open("wb") as file:
        file.truncate(3_000_001)
    link.symlink_to(path)
    for one in (path, link):
        assert file_fault(one) is None and file_fault(str(one), 3_000_001) is None
        assert file_fault(one, 3_000_000) == "has 3 MB; the limit is 3 MB"


def test_what_nobody_can_read_to_its_end_is_found_among_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for name, target in (("link", "file"), ("loop", "loop"), ("gone", "nowhere")):
        (tmp_path / name).symlink_to(target)
    assert odd_file(tmp_path / "missing", tmp_path) is None
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert odd_file(tmp_path) == (tmp_path / "zero", "is a device, and no file")
    os.mkfifo(tmp_path / "folder" / "pipe")
    found = (tmp_path / "folder" / "pipe", "is a pipe, and no file")
    assert odd_file(tmp_path / "folder", tmp_path) == found
