"""Commands on a disk that fills up while they run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.entries.conftest import ROOT

__all__ = ["on_a_small_disk"]

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
    disk, kept = folder / "disk", folder / "kept"
    disk.mkdir()
    kept.mkdir()
    words = ("sh", size, str(disk), str(kept), sign, sys.executable, "-m", module, *words)
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", _SCRIPT, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no disk can be mounted here: {result.stderr.strip()}")
    return result, disk, kept
