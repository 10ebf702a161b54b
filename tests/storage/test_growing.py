"""A file in blocks: what a build left that did not end is found by the next one, if whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.config.checks import ConfigError
from src.machine.failures import DiskRefuses
from src.storage.cache import cached
from src.storage.growing import GrowingFile
from tests.warm_python import ROOT

JOURNAL = "blocks.jsonl"
BLOCKS = [bytes([number]) * (1000 + number) for number in range(5)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of five blocks that nobody has closed."""
    growing = GrowingFile(tmp_path / "data", "letters")
    for number, block in enumerate(BLOCKS):
        growing.add(block, {"number": number})
    return tmp_path / "data"


def found(file: Path, of: str = "letters") -> list[bytes]:
    growing = GrowingFile(file, of)
    assert [values["number"] for values in growing.blocks] == [*range(len(growing.blocks))]
    contents = [*growing.contents()]
    assert growing.size == file.stat().st_size == sum(map(len, contents))
    return contents


def test_whole_blocks_are_found_and_gone_on_with(file: Path) -> None:
    growing = GrowingFile(file, "letters")
    assert [*growing.contents()] == BLOCKS
    growing.add(b"more", {"number": 5})
    assert found(file) == [*BLOCKS, b"more"]
    growing.close()
    assert file.read_bytes() == b"".join([*BLOCKS, b"more"])
    assert not file.with_name(JOURNAL).exists()


@pytest.mark.parametrize("cut", [1, 1500])
def test_what_was_cut_off_is_left_out(file: Path, cut: int) -> None:
    os.truncate(file, file.stat().st_size - cut)
    assert found(file) == BLOCKS[: 4 if cut == 1 else 3]


def test_a_line_that_was_cut_off_costs_its_block(file: Path) -> None:
    os.truncate(file.with_name(JOURNAL), file.with_name(JOURNAL).stat().st_size - 3)
    assert found(file) == BLOCKS[:4]
    assert found(file) == BLOCKS[:4], "the next line begins where the last whole one ends"


def test_a_flipped_byte_costs_what_follows(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[1500] ^= 1
    file.write_bytes(content)
    assert found(file) == BLOCKS[:1]


def test_blocks_of_something_else_are_written_anew(file: Path) -> None:
    assert found(file, "digits") == []


def test_a_block_that_the_disk_refused_is_written_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing, usual = GrowingFile(file, "letters"), Path.open

    def refuse(path: Path, *args: str) -> object:
        if path.name == JOURNAL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return usual(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(OSError, match="No space") as error:
            growing.add(b"lost", {"number": 5})
    assert error.value.filename == str(file.with_name(JOURNAL))
    assert found(file) == BLOCKS


def test_blocks_outlive_a_failure_but_for_one_of_the_input(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, int]:
        growing = GrowingFile(folder / "data", "letters")
        blocks.append(len(growing.blocks))
        if errors:
            if blocks[-1] < 2:
                growing.add(b"block", {})
            raise errors.pop(0)
        growing.close()
        return {}

    blocks: list[int] = []
    errors: list[BaseException] = [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")]
    errors += [RuntimeError("a worker died"), ConfigError("changed"), KeyboardInterrupt()]
    for error in (KeyboardInterrupt, DiskRefuses, RuntimeError, ConfigError, KeyboardInterrupt):
        with pytest.raises(error):
            cached(tmp_path / "key", build, what="the letters")
    cached(tmp_path / "key", build, what="the letters")
    assert blocks == [0, 1, 2, 2, 0, 1]


BUILD = """
import sys, time
from pathlib import Path
from src.config.checks import ConfigError
from src.machine.failures import DiskRefuses
from src.storage.cache import cached
from src.storage.growing import GrowingFile

def build(folder):
    file = GrowingFile(folder / "data", "letters")
    print(len(file.blocks), flush=True)
    for number in range(len(file.blocks), 6):
        file.add(bytes([number]) * 1000, {})
        print(number, flush=True)
        if number < 5 and len(sys.argv) > 2:
            time.sleep(0.05)
    file.close()
    return {}

cached(Path(sys.argv[1]), build, what="the letters")
"""


def begun(folder: Path, *slowly: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), *slowly],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_entry_whose_builder_was_killed_is_gone_on_with(tmp_path: Path) -> None:
    killed = begun(tmp_path / "key", "slowly")
    assert killed.stdout is not None
    said = [killed.stdout.readline() for _ in range(3)]
    assert said == ["0\n", "0\n", "1\n"]
    killed.kill()
    killed.communicate()
    later, _ = begun(tmp_path / "key").communicate()
    assert int(later.split()[0]) >= 2, "it begins after the blocks that were whole"
    assert (tmp_path / "key" / "data").read_bytes() == b"".join(
        bytes([number]) * 1000 for number in range(6)
    )
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["data", "entry.json"]
    assert not list(tmp_path.glob("*.unfinished"))


def test_of_several_that_did_not_end_one_is_gone_on_with(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"key.{name}.unfinished").mkdir()
        GrowingFile(tmp_path / f"key.{name}.unfinished" / "data", "letters").add(b"one", {})
    (tmp_path / "key.c.unfinished").mkdir()  # of a build that has no such file

    def build(folder: Path) -> dict[str, int]:
        growing = GrowingFile(folder / "data", "letters")
        before = len(growing.blocks)
        growing.close()
        return {"before": before}

    assert cached(tmp_path / "key", build, what="the letters").values == {"before": 1}
    assert not list(tmp_path.glob("*.unfinished"))
