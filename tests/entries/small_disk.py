"""Commands on a disk that fills up while they run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.entries.conftest import ROOT

__all__ = ["on_a_full_disk", "on_a_small_disk"]

# Run as root of a namespace of its own, which sees the disk alone and takes it away at its end.
_SCRIPT = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 77
out=$2; kept=$3; sign=$4; shift 4
"$@" output_dir="$out" &
until eval grep -qs "$sign"; do
    kill -0 $! || exit 78
    sleep 0.01
done
cat /dev/zero > "$out/filler" 2> /dev/null
wait $!; code=$?
rm "$out/filler"
cp -r "$out/." "$kept"
exit $code
"""


def on_a_small_disk(
    size: str, sign: str, folder: Path, environment: dict[str, str], module: str, *words: str
) -> tuple[subprocess.CompletedProcess[str], Path, Path]:
    """Once the sign is seen, a stranger's file takes all that is left of the disk.

    Args:
        size: of the disk, in tmpfs's words.
        sign: the words for `grep` that find it, quoted for a shell; `$out` is the disk.
        folder: an empty one.

    Returns:
        What came of it, where the disk was, and a folder with all that was on it but the file.
    """
    disk, kept = _folders(folder)
    words = (size, str(disk), str(kept), sign, sys.executable, "-m", module, *words)
    return _mounted(_SCRIPT, words, environment), disk, kept


# As above, but the disk is full from the beginning.
_FULL_SCRIPT = """
mount -t tmpfs -o size=300m tmpfs "$1" || exit 77
out=$1; from=$2; kept=$3; shift 3
cp -r "$from/." "$out"
cat /dev/zero > "$out/filler" 2> /dev/null
"$@"; code=$?
rm "$out/filler"
cp -r "$out/." "$kept"
exit $code
"""


def on_a_full_disk(
    outputs: Path, folder: Path, environment: dict[str, str], module: str, *words: str
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The command has not a byte left beside the copied files of an output folder.

    Args:
        outputs: what is on the disk beforehand.
        folder: an empty one.
        words: of the command; `DISK` in them is the disk.

    Returns:
        What came of it, and a folder with all that was on the disk at the end.
    """
    disk, kept = _folders(folder)
    typed = [word.replace("DISK", str(disk)) for word in words]
    words = (str(disk), str(outputs), str(kept), sys.executable, "-m", module, *typed)
    return _mounted(_FULL_SCRIPT, words, environment), kept


def _folders(folder: Path) -> tuple[Path, Path]:
    disk, kept = folder / "disk", folder / "kept"
    disk.mkdir()
    kept.mkdir()
    return disk, kept


def _mounted(
    script: str, words: Sequence[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a shell's script with these arguments where it may mount; skip where nothing may."""
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no disk can be mounted here: {result.stderr.strip()}")
    return result
