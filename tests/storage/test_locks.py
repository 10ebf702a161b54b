"""Whether another process holds a lock, also where this one may not."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from src.machine.subprocesses import ROOT
from src.storage.locks import if_free

_ASK = """
import sys
from pathlib import Path
from src.storage.locks import if_free
for path in map(Path, sys.argv[1:]):
    with if_free(path) as free:
        print(free)
"""


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
