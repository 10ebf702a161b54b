"""Whether another process holds a lock, also where this one may not."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from src.config.checks import ConfigError
from src.machine.failures import DiskRefuses, explained
from src.machine.subprocesses import ROOT
from src.storage.cache import cached
from src.storage.locks import ProcessLock, alone, holder_of, if_free, only_writer
from src.tracking.spool import Spool, writer_lock

_ASK = """
import sys
from pathlib import Path
from src.storage.locks import if_free
for path in map(Path, sys.argv[1:]):
    with if_free(path) as free:
        print(free)
"""


def test_who_finds_a_lock_held_is_refused_with_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.storage.locks._MOMENT_SECONDS", 0.05)
    for _ in range(2):
        with alone(tmp_path / "lock", "r is being exported"):
            said = r"^r is being exported by another process.*: wait for it to end\.$"
            again = alone(tmp_path / "lock", "r is being exported")
            with pytest.raises(ConfigError, match=said), again:
                raise AssertionError("two had the lock")


def test_a_lock_is_held_within_the_block_and_no_longer(tmp_path: Path) -> None:
    one, two = tmp_path / "one.lock", tmp_path / "two.lock"
    for _ in range(2):
        with if_free(one, two) as free, if_free(two) as again:
            assert free and not again
    with FileLock(two), if_free(one, two) as free:
        assert not free
    with FileLock(one, timeout=0), FileLock(two, timeout=0):  # both were given back
        pass
    with if_free(tmp_path / "nowhere" / "lock") as free:
        assert free


def test_what_may_only_be_read_is_held_by_whoever_holds_it(tmp_path: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("root is refused nothing, and there is no setpriv")
    free, held, missing = (tmp_path / name for name in ("free", "held", "missing"))
    for path in (free, held):
        path.touch()
    # Root without its capabilities is refused what any other user would be.
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    with FileLock(held):
        for path in (free, held):
            path.chmod(0o444)
        tmp_path.chmod(0o555)
        try:
            command = [*without, sys.executable, "-c", _ASK, *map(str, (free, held, missing))]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        finally:
            tmp_path.chmod(0o755)
    assert done.stdout.split() == ["True", "False", "True"]


def test_a_lock_that_cannot_be_opened_now_does_not_count_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(OSError, match="Too many"), if_free(tmp_path / "lock"):
        pass


def no_locks(number: int) -> Callable[..., None]:
    """What `flock` does on a file system that was mounted without locks."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks(number))
    said = f"the file system of {tmp_path}.* has no locks"
    with pytest.raises(ConfigError, match=f"the pictures cannot be kept: {said}.*cache_dir"):
        cached(tmp_path / "key", lambda folder: {}, what="the pictures")
    with pytest.raises(DiskRefuses, match=said), explained(tmp_path):
        Spool(tmp_path / "run")


_WITHOUT_FLOCK = """
import errno, fcntl, os, sys

def flock(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

fcntl.flock = flock
from pathlib import Path
from src.storage.cache import cached
from src.storage.locks import ProcessLock, if_free
path = Path(sys.argv[1])
with ProcessLock(path / "lock"), if_free(path / "lock") as free:
    print(free)
print(cached(path / "key", lambda folder: {}, what="the pictures").built)
if sys.argv[2:]:
    cached(path / "killed", lambda folder: os._exit(9), what="the pictures")
else:
    print(cached(path / "killed", lambda folder: {}, what="the pictures").built)
"""


def test_without_flock_files_keep_processes_apart_and_nothing_is_said_of_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _WITHOUT_FLOCK, str(tmp_path)]
    options: dict[str, Any] = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300}
    killed = subprocess.run([*command, "killed"], check=False, **options)
    assert (killed.returncode, killed.stderr) == (9, "")
    after = subprocess.run(command, check=True, **options)
    assert (after.stdout.split(), after.stderr) == (["False", "False", "True"], "")


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize(
    ("record", "who"), [("7\nelsewhere\n", "process 7 on elsewhere"), ("", "another process")]
)
def test_a_file_that_another_machine_left_as_its_lock_is_named_with_its_machine(
    record: str, who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []

    class Remove(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "remove" in (line := record.getMessage()):
                noted.append(line)
                os.remove(line.partition("remove ")[2].rstrip(")"))

    monkeypatch.setattr(fcntl, "flock", no_locks(errno.ENOSYS))
    monkeypatch.setattr("src.storage.locks._QUIET_SECONDS", 0.2)
    for name in ("key.lock", "other.lock"):
        (tmp_path / name).write_text(record)
    handler = Remove()
    logging.getLogger().addHandler(handler)
    try:
        assert cached(tmp_path / "key", lambda folder: {}, what="the pictures").built
        with ProcessLock(tmp_path / "other.lock", timeout=100):
            pass
    finally:
        logging.getLogger().removeHandler(handler)
    for name, line in zip(("key.lock", "other.lock"), noted, strict=True):
        assert line.startswith(f"waiting for the lock {tmp_path / name} of {who} ")


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_who_does_not_wait_says_whose_lock_it_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks(errno.ENOSYS))
    run = tmp_path / "run"
    writer_lock(run).parent.mkdir(parents=True)
    writer_lock(run).write_text("7\nelsewhere\n")
    said = f"{run} is being written by process 7 on elsewhere (if that has ended, remove "
    with pytest.raises(ValueError, match=re.escape(said)):
        Spool(run, wait_seconds=0.1)


_HELD = """
import sys
from pathlib import Path
from src.storage.locks import ProcessLock
with ProcessLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no other system lists its locks")
def test_a_process_of_this_machine_is_named_by_its_number(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", _HELD, str(tmp_path / "lock")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert holder_of(lock) == f"another process ({process.pid})"
        process.communicate("end\n", timeout=60)
    assert holder_of(lock) == "another process"  # none that is known any more


_WRITES = """
import sys, time
from pathlib import Path
from src.storage.locks import only_writer
with only_writer(Path(sys.argv[1]), "out"):
    print("begun", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="this system has no such names")
def test_an_output_has_one_writer_at_a_time_and_nothing_is_left_of_that(tmp_path: Path) -> None:
    out, link = tmp_path / "labels.csv", tmp_path / "link.csv"
    link.symlink_to(out)
    command = [sys.executable, "-c", _WRITES, str(out)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
            for place in (out, link):
                said = f"^out: {place} is being written by another process: "
                with pytest.raises(ConfigError, match=said), only_writer(place, "out"):
                    pass
            with only_writer(tmp_path / "other.csv", "out"):
                pass
        finally:
            process.kill()
    with only_writer(out, "out"):
        pass
    with only_writer(Path(os.devnull), "out"), only_writer(Path(os.devnull), "out"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["link.csv"]
