"""Commands on a disk that is full, or fills up while they run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.entries.commands import complete

__all__ = ["on_a_full_disk"]

# Run as root of a namespace of its own, which sees the disk alone and takes it away at its end.
_SCRIPT = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 77
out=$2; from=$3; kept=$4; sign=$5; shift 5
fill() { cat /dev/zero > "$out/filler" 2> /dev/null; }
cp -r "$from/." "$out"
[ "$sign" ] || fill
"$@" &
until [ -z "$sign" ] || eval grep -qs "$sign"; do
    kill -0 $! || exit 78
    sleep 0.01
done
[ -z "$sign" ] || fill
wait $!; code=$?
rm "$out/filler"
cp -r "$out/." "$kept"
exit $code
"""


def on_a_full_disk(
    size: str,
    folder: Path,
    environment: Mapping[str, str],
    module: str,
    *overrides: str,
    sign: str = "",
    outputs: Path | None = None,
) -> tuple[subprocess.CompletedProcess[str], Path, Path]:
    """Run a command while a stranger's file takes all that is left of the disk; skip if it cannot.

    Args:
        size: of the disk, in tmpfs's words.
        folder: an empty one.
        overrides: of the command; `DISK` in them is the disk.
        sign: the words for `grep` that find what the stranger waits for, quoted for a shell; `$out`
            is the disk. By default the disk is full before the command starts.
        outputs: a folder of which the disk has a copy.

    Returns:
        What came of it, where the disk was, and a folder with all that was on it but the file.
    """
    disk, kept, empty = (folder / name for name in ("disk", "kept", "empty"))
    for path in (disk, kept, empty):
        path.mkdir()
    script = ["unshare", "-rm", "sh", "-c", _SCRIPT, "sh"]
    places = [size, str(disk), str(outputs or empty), str(kept), sign]
    command = [
        sys.executable,
        "-m",
        module,
        *(override.replace("DISK", str(disk)) for override in overrides),
    ]
    result = complete([*script, *places, *command], environment)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no disk can be mounted here: {result.stderr.strip()}")
    return result, disk, kept
