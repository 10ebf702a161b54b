from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.search.workers.folders import (
    CHUNK_BYTES,
    DamagedParcel,
    Incoming,
    Outgoing,
    States,
    states,
)

_NAMES = st.sampled_from(["run.json", "tracking/spool.jsonl", "checkpoints/last.ckpt", "ä b/c=1"])
_CONTENTS = st.dictionaries(_NAMES, st.binary(max_size=40))


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold these files and no others; those that are the same stay untouched."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _read(folder).keys() - files.keys():
        (folder / name).unlink()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_bytes() != content:
            path.unlink(missing_ok=True)
            path.write_bytes(content)


def _read(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _sent(
    folder: Path, before: States | None, scratch: Path, *, replace: bool = False, away: bool = True
) -> list[Path]:
    """Send a folder to where it is, after (`away`) it was moved: two machines with one path."""
    outgoing = Outgoing.pack({folder: before}, scratch)
    if away:
        folder.rename(folder.with_name("there"))
        if folder.with_name("here").exists():
            folder.with_name("here").rename(folder)
    incoming = Incoming(outgoing.size, outgoing.digest, scratch)
    while not incoming.add(outgoing.chunk(incoming.offset)):
        pass
    outgoing.close()
    unpacked = incoming.unpack(replace=replace)
    incoming.close()
    return unpacked


@settings(max_examples=25, deadline=None)
@given(first=_CONTENTS, later=_CONTENTS, own=st.binary(max_size=5))
def test_a_folder_goes_and_what_changed_in_it_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[str, bytes],
    later: dict[str, bytes],
    own: bytes,
) -> None:
    base = tmp_path_factory.mktemp("both")
    folder, here = base / "runs" / "one", base / "runs" / "here"
    _write(folder, first)
    assert _sent(folder, None, base) == [folder]
    assert _read(folder) == first
    # The worker's is at the path now, and the driver's aside.
    folder.with_name("there").rename(here)
    before = states(folder)
    _write(folder, later)
    (here / "mirror.json").write_bytes(own)
    assert _sent(folder, before, base) == [folder]
    assert _read(folder) == later | {"mirror.json": own}
    assert sorted(path.name for path in base.iterdir()) == ["runs"], "something was left behind"


def test_only_what_changed_travels(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _write(folder, {"large": os.urandom(3 * CHUNK_BYTES), "small": b"a"})
    whole = Outgoing.pack({folder: None}, tmp_path)
    assert len(whole.chunk(0)) == CHUNK_BYTES and whole.size > 3 * CHUNK_BYTES
    before = states(folder)
    (folder / "small").write_bytes(b"b")
    assert Outgoing.pack({folder: before}, tmp_path).size < 20_000


def test_what_is_here_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _write(folder, {"a": b"1"})
    number = folder.stat().st_ino
    assert _sent(folder, None, tmp_path, away=False) == []
    assert folder.stat().st_ino == number
    _write(tmp_path / "here", {"b": b"2"})
    assert _sent(folder, None, tmp_path, replace=True) == [folder]
    assert _read(folder) == {"a": b"1"}


def test_locks_stay_where_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _write(folder, {"a": b"1", "tracking/writer.lock": b"here"})
    _write(tmp_path / "here", {"a": b"0", "tracking/writer.lock": b"there"})
    before = {"a": (1, 0, 0, 0), "tracking/mirror.lock": (1, 0, 0, 0)}
    assert _sent(folder, before, tmp_path) == [folder]
    assert _read(folder) == {"a": b"1", "tracking/writer.lock": b"there"}


def test_files_come_in_the_order_in_which_they_changed(tmp_path: Path) -> None:
    _write(tmp_path, {"z": b"", "a": b"", "m": b""})
    for second, name in enumerate(["m", "z", "a"]):
        os.utime(tmp_path / name, (second, second))
    assert list(states(tmp_path)) == ["m", "z", "a"]


def test_a_damaged_parcel_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    _write(folder, {"a": b"1"})
    outgoing = Outgoing.pack({folder: None}, tmp_path)
    content = outgoing.chunk(0)
    folder.rename(tmp_path / "there")
    place = content.index(b"\n1" if b"\n1" in content else b"1")
    incoming = Incoming(outgoing.size, outgoing.digest, tmp_path)
    incoming.add(content[:place] + b"0" + content[place + 1 :])
    with pytest.raises(DamagedParcel):
        incoming.unpack(replace=True)
    assert not folder.exists()
