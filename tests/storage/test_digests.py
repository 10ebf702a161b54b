"""Checksums of lines and archives: whatever byte is flipped, no other content is taken for it."""

from __future__ import annotations

import hashlib
import json
import random
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.storage.digests import (
    DamagedLine,
    HashingWriter,
    checked_json,
    checked_line,
    digest_of,
    file_digest,
    line_content,
    zip_is_whole,
)

VALUES = {"event": "metrics", "values": {"val/accuracy": 0.9325, "ü": "\udcff"}, "step": 3}


def test_digests_are_sha_256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert digest_of(content) == file_digest(tmp_path / "file") == expected


def test_a_line_is_json_with_the_checksum_of_what_comes_before_it() -> None:
    line = checked_line(VALUES)
    assert line.endswith(b"}\n") and line.count(b"\n") == 1
    before, _, _ = line.rpartition(b',"check"')
    assert json.loads(line) == {**VALUES, "check": f"{zlib.crc32(before):08x}"}
    assert line_content(line) == line_content(line, strict=True) == VALUES


@pytest.mark.parametrize("write", [checked_line, checked_json])
def test_a_line_with_a_flipped_bit_is_damaged(write: Callable[..., bytes]) -> None:
    line = write(VALUES)
    for place in range(len(line)):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[place] ^= 1 << bit
            # A flip may make the end of a line; a file of several lines is read as a whole.
            parts = flipped.splitlines(keepends=True) if write is checked_line else [flipped]
            for part in parts:
                with pytest.raises(DamagedLine):
                    line_content(bytes(part))


def test_a_line_without_a_checksum_may_be_optunas() -> None:
    assert line_content(b'{"op_code":4}\n') == {"op_code": 4}
    for line in (b"[1]\n", b"", b"\n", b"{}x", b"\xff", b"[" * 100_000):
        with pytest.raises(DamagedLine):
            line_content(line)
    with pytest.raises(DamagedLine, match="missing"):
        line_content(b'{"op_code":4}\n', strict=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "weights.ckpt"
    with path.open("wb") as file:
        writer = HashingWriter(file)
        torch.save({"weight": torch.arange(60.0), "epoch": 3}, writer)
        writer.close_archive()
    return path


def test_an_archive_with_its_digest_is_an_archive(archive: Path) -> None:
    assert zip_is_whole(archive) is True
    assert zipfile.ZipFile(archive).testzip() is None
    for mapped in (False, True):
        stored = torch.load(archive, weights_only=True, mmap=mapped)
        assert torch.equal(stored["weight"], torch.arange(60.0)) and stored["epoch"] == 3
    torch.save({"weight": 1}, archive)
    assert zip_is_whole(archive) is None, "one without a digest"


def test_no_flipped_byte_of_an_archive_gives_other_weights(archive: Path) -> None:
    content = archive.read_bytes()
    places = random.Random(0).sample(range(len(content)), 150)
    unmarked = 0
    for place in (*places, *range(len(content) - 100, len(content))):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        archive.write_bytes(flipped)
        whole = zip_is_whole(archive)
        assert whole is not True
        if whole is None:  # the words that say where the digest is
            unmarked += 1
            assert torch.equal(torch.load(archive)["weight"], torch.arange(60.0))
    assert unmarked < 20
    for shorter in (0, 1, 50, len(content) // 2):
        archive.write_bytes(content[:shorter])
        assert zip_is_whole(archive) is None
