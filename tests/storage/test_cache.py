"""The cache: entries are there whole or not at all, whatever happens to their builder or disk."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from src.config.checks import ConfigError
from src.machine.failures import DiskRefuses
from src.storage.cache import (
    CachedMeasurement,
    Entry,
    cache_folder,
    cached,
    check_again,
    key_of,
    load_measurement,
    opened,
    read_entry,
    store_measurement,
)
from src.storage.locks import ProcessLock

REPOSITORY = Path(__file__).parents[2]
CONTENT = os.urandom(9 << 20)  # three blocks, the last one of which is not full


def build(folder: Path) -> dict[str, Any]:
    (folder / "content.bin").write_bytes(CONTENT)
    (folder / "empty.bin").touch()
    (folder / "below").mkdir()
    (folder / "below" / "file").write_text("not checked")
    return {"shape": [3, 2], "reasons": [[1, "cut short"]]}


def never(folder: Path) -> dict[str, Any]:
    pytest.fail("built again")


def test_an_entry_is_built_once_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "key"
    first = cached(folder, build, what="the pictures")
    again = cached(folder, never, what="the pictures")
    assert (first.built, again.built) == (True, False)
    assert first.values == again.values == {"shape": [3, 2], "reasons": [[1, "cut short"]]}
    assert (again.folder / "content.bin").read_bytes() == CONTENT
    assert (again.folder / "below" / "file").exists()
    check_again()
    assert read_entry(folder) == again
    assert read_entry(tmp_path / "other") is None


def test_an_entry_that_lacks_what_is_needed_is_built_again_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def usable(entry: Any) -> bool:
        return bool(entry.values["stored"])

    cached(tmp_path / "key", lambda _: {"stored": False}, what="the pictures")
    entry = cached(tmp_path / "key", lambda _: {"stored": True}, what="it", usable=usable)
    assert entry.built and not caplog.records
    with pytest.raises(ConfigError, match="being changed by another program"):
        cached(tmp_path / "new", lambda _: {"stored": False}, what="it", usable=usable)


def test_one_that_needs_more_takes_nothing_from_one_that_has_just_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two commands with different limits of the cache do, which decode pictures at once."""
    folder, removed, read = tmp_path / "key", Event(), Event()
    found: list[bool] = []

    def needs_more() -> None:
        entry = cached(
            folder,
            lambda _: {"stored": True},
            what="it",
            usable=lambda entry: bool(entry.values["stored"]),
        )
        found.append(entry.values["stored"])

    other = Thread(target=needs_more)
    release, rmtree = ProcessLock.release, shutil.rmtree

    def release_and_wait(self: ProcessLock, force: bool = False) -> None:
        release(self, force)
        if not other.is_alive() and not found:  # the first one, on whose lock the other waits
            other.start()
            assert removed.wait(60)

    def remove_and_wait(path: Path, ignore_errors: bool = False) -> None:
        rmtree(path, ignore_errors=ignore_errors)
        if path == folder and other.is_alive():
            removed.set()
            assert read.wait(60)

    monkeypatch.setattr(ProcessLock, "release", release_and_wait)
    monkeypatch.setattr(shutil, "rmtree", remove_and_wait)
    try:
        first = cached(folder, lambda _: {"stored": False}, what="it")
    finally:
        read.set()
        other.join(60)
    assert first.built and not first.values["stored"] and found == [True]


def changed(file: Path) -> None:
    """Change a byte, and nothing that a look at the folder would show."""
    status = file.stat()
    with file.open("r+b") as stream:
        stream.seek((4 << 20) + 1)
        stream.write(bytes([CONTENT[(4 << 20) + 1] ^ 1]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a byte changed": changed,
    "cut": lambda file: os.truncate(file, 1000),
    "emptied": lambda file: os.truncate(file, 0),
    "longer": lambda file: os.truncate(file, len(CONTENT) + 1),
    "removed": lambda file: file.unlink(),
    "entry removed": lambda file: file.with_name("entry.json").unlink(),
    "entry cut": lambda file: os.truncate(file.with_name("entry.json"), 30),
    "entry of another kind": lambda file: file.with_name("entry.json").write_text("[1, 2]"),
    "entry of an earlier version": lambda file: file.with_name("entry.json").write_text(
        json.dumps({"shape": "x", "reasons": 1, "flat": 2, "digest": "x", "mtime_ns": None})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_rebuilt_with_a_warning(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "key"
    before = cached(folder, build, what="the pictures")
    assert before.built
    DAMAGES[damage](folder / "content.bin")
    check_again()
    with caplog.at_level(logging.WARNING):
        after = cached(folder, build, what="the pictures")
    assert ["damaged" in record.message for record in caplog.records] == [True]
    assert after.built and (folder / "content.bin").read_bytes() == CONTENT
    assert not cached(folder, never, what="the pictures").built


UNREADABLE = {
    errno.EACCES: "you may not|permission",
    errno.EIO: "the disk of .* fails",
    errno.ESTALE: "the disk of .* fails",
    errno.EMFILE: "too many files were open",
}


@pytest.mark.parametrize("number", UNREADABLE)
def test_an_entry_that_cannot_be_read_now_is_neither_damaged_nor_made_anew(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: Path) -> None:
        raise OSError(number, os.strerror(number), str(file))

    folder = tmp_path / "key"
    before = cached(folder, build, what="the pictures")
    check_again()
    with monkeypatch.context() as patch:
        patch.setattr("src.storage.cache._checksums", refuse)
        with pytest.raises(ConfigError, match=UNREADABLE[number]):
            cached(folder, never, what="the pictures")
    assert not caplog.records
    assert cached(folder, never, what="the pictures").values == before.values


def test_a_touched_file_is_read_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "key"
    cached(folder, build, what="the pictures")
    os.utime(folder / "content.bin", (0, 0))
    assert not cached(folder, never, what="the pictures").built
    monkeypatch.setattr("src.storage.cache._checksums", lambda _: pytest.fail("read again"))
    assert not cached(folder, never, what="the pictures").built


BUILD = """
import sys, time
from pathlib import Path
from src.machine.failures import DiskRefuses
from src.storage.cache import cached

def build(folder):
    print("building", flush=True)
    with (folder / "content.bin").open("wb") as stream:
        for _ in range(int(sys.argv[2])):
            stream.write(bytes(10_000))
            stream.flush()
            time.sleep(0.01)
    return {}

print("ready", flush=True)
sys.stdin.readline()
try:
    entry = cached(Path(sys.argv[1]), build, what="the pictures")
    print((entry.folder / "content.bin").stat().st_size)
except DiskRefuses as error:
    print("refused:", error)
"""


def start(
    folder: Path, blocks: int, first: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    """A process that waits for a line before it builds an entry of blocks of 10 kB."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder), str(blocks)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=first,  # noqa: PLW1509 - sets a limit, which no thread here minds
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_several_processes_build_once(tmp_path: Path) -> None:
    running = [start(tmp_path / "key", 100) for _ in range(3)]
    for process in running:
        go(process)
    said = [process.communicate(timeout=60)[0].split() for process in running]
    assert Counter(len(overrides) for overrides in said) == {1: 2, 2: 1}
    assert {overrides[-1] for overrides in said} == {"1000000"}


def test_a_killed_builder_leaves_nothing_that_is_used(tmp_path: Path) -> None:
    process = start(tmp_path / "key", 10_000)
    go(process)
    until = time.monotonic() + 30
    while not any(file.stat().st_size for file in tmp_path.glob("*.unfinished/content.bin")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -9
    assert list(tmp_path.glob("*.unfinished/content.bin"))
    assert cached(tmp_path / "key", build, what="the pictures").built
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_cache_that_is_removed_while_two_build_keeps_what_is_whole(tmp_path: Path) -> None:
    place, begun, go_on = tmp_path / "pictures", Event(), Event()
    found: list[bytes] = []

    def later(folder: Path) -> dict[str, Any]:
        with (folder / "content.bin").open("wb") as stream:
            stream.write(CONTENT[:100])
            stream.flush()
            begun.set()
            assert go_on.wait(60)
            stream.write(CONTENT[100:])
        return {}

    def other_process() -> None:
        entry = cached(place / "key", later, what="the pictures")
        found.append((entry.folder / "content.bin").read_bytes())

    other = Thread(target=other_process)

    def first(folder: Path) -> dict[str, Any]:
        build(folder)
        shutil.rmtree(place)  # and with it the lock, so that the other one does not wait
        other.start()
        assert begun.wait(60)
        return {}

    # It does not take for its own what the other one has written so far.
    try:
        with pytest.raises(ConfigError, match="the pictures cannot be kept: No such file"):
            cached(place / "key", first, what="the pictures")
    finally:
        go_on.set()
        other.join(60)
    assert found == [CONTENT]
    assert sorted(path.name for path in place.iterdir()) == ["key", "key.lock"]


@pytest.mark.parametrize("built", [False, True])
def test_an_entry_that_another_process_removes_before_it_is_read_is_built_once_more(
    built: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, made = tmp_path / "pictures", Counter[str]()

    def counted(folder: Path) -> dict[str, Any]:
        made["built"] += 1
        return build(folder)

    def read(entry: Entry) -> bytes:
        made["read"] += 1
        if made["read"] <= made["removals"]:
            subprocess.run(["rm", "-rf", str(place)], check=True)
        return (entry.folder / "content.bin").read_bytes()

    if built:
        cached(place / "key", build, what="the pictures")
    made["removals"] = 1
    assert opened(place / "key", counted, read, what="the pictures") == CONTENT
    assert (made["built"], made["read"]) == (1 if built else 2, 2)
    (line,) = caplog.messages
    assert line == f"the pictures in {place / 'key'} were removed meanwhile: they are made anew"
    made["removals"] = made["read"] + 2
    with pytest.raises(ConfigError, match="another program removes the pictures in"):
        opened(place / "key", counted, read, what="the pictures")


def test_a_disk_that_fills_up_is_a_plain_error(tmp_path: Path) -> None:
    def no_file_above_100_kilobytes() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = start(tmp_path / "key", 100, no_file_above_100_kilobytes)
    said = process.communicate("go\n", timeout=60)[0].splitlines()[-1]
    assert said.startswith("refused: the pictures cannot be kept: a file in ")
    assert str(tmp_path) in said and "ulimit -f" in said and "data.cache_dir" in said
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "there is no room"),
        (errno.EDQUOT, "your quota"),
        (errno.EACCES, "you may not write"),
        (errno.EROFS, "mounted read-only"),
        (errno.EIO, "the disk of .* fails"),
        (errno.EMFILE, "too many files were open while the pictures were made"),
        (errno.ENOMEM, "not enough memory while the pictures were made"),
    ],
)
def test_what_a_disk_or_machine_refuses_is_named_and_leaves_nothing(
    number: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        # Of a full disk alone nothing that a person wrote is at fault.
        kind = DiskRefuses if number in (errno.ENOSPC, errno.EDQUOT) else ConfigError
        with pytest.raises(kind, match=reason) as caught:
            cached(tmp_path / "key", build, what="the pictures")
    assert "while" in reason or (str(tmp_path) in str(caught.value))
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]
    assert cached(tmp_path / "key", build, what="the pictures").built


def test_keys_are_functions_of_the_plan_and_the_contents() -> None:
    key = key_of({"a": 1, "b": [2]}, b"xy", b"z")
    assert key == key_of({"b": [2], "a": 1}, b"x", b"yz") and len(key) == 32
    assert len({key, key_of({"a": 1}, b"xyz"), key_of({"a": 1, "b": [2]}, b"xy")}) == 3


def test_records_are_found_by_what_they_depend_on(tmp_path: Path) -> None:
    known, record = (
        {"machine": "m", "shape": [3, 8]},
        CachedMeasurement({"seconds": 1.25}, disturbed=True),
    )
    assert load_measurement("plan", known, str(tmp_path)) is None
    store_measurement("plan", known, record, str(tmp_path))
    assert load_measurement("plan", dict(reversed(known.items())), str(tmp_path)) == record
    assert load_measurement("step", known, str(tmp_path)) is None
    assert load_measurement("plan", known | {"shape": [3, 9]}, str(tmp_path)) is None
    (file,) = tmp_path.glob("plans/*.json")
    file.write_bytes(file.read_bytes().replace(b"1.25", b"1.35"))
    assert load_measurement("plan", known, str(tmp_path)) is None
    store_measurement(
        "plan", known, record, str(file)
    )  # a file in the way: measured again next time


def test_the_folder_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BAKEOFF_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder(None) == Path("/some/where/bakeoff")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(None) == Path.home() / ".cache" / "bakeoff"
    monkeypatch.setenv("BAKEOFF_CACHE", "/big disk/cache")
    assert cache_folder(None) == Path("/big disk/cache")
    assert cache_folder("here") == Path("here")


@pytest.mark.skipif(sys.platform == "win32", reason="there a folder of the system's is named")
def test_a_user_without_a_home_is_asked_for_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def nobody(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "BAKEOFF_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)  # as in a container that has no such user
    with pytest.raises(ConfigError, match="BAKEOFF_CACHE"):
        cache_folder(None)
    assert cache_folder("here") == Path("here")
