"""Processes that draw a comparison, made ready while it has not been made yet.

What draws takes most of a second to import and two more to draw a report, all of it on one core.
Processes that begin with the command import while the runs are read, and then share the pictures.
A process that fails costs nothing but time: what it has not drawn is drawn here.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from src.checkout import import_environment

if TYPE_CHECKING:  # the processes should begin before anything else is imported
    from src.reporting.exhibits import Exhibits

__all__ = ["Draughtsmen"]


class Draughtsmen:
    """So many processes, which end with the `with` block, or with this process.

    Args:
        count: 0 for none: then this process draws.
    """

    def __init__(self, count: int) -> None:
        self._processes = [_begun() for _ in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(OSError):  # what a dead one was not told
                    stream.close()

    def draw(self, folder: Path, exhibits: Exhibits) -> Iterator[Path]:
        """As `draw_comparison_figures`, once."""
        shares = len(self._processes) or 1
        for share, process in enumerate(self._processes):
            assert process.stdin is not None
            with suppress(OSError):  # it is dead
                pickle.dump((folder, exhibits, share, shares), process.stdin)
                process.stdin.close()
        for share, process in enumerate(self._processes):
            assert process.stdout is not None
            drawn = []
            for line in process.stdout:
                drawn.append(folder / line.decode().rstrip("\n"))
                yield drawn[-1]
            if process.wait():
                yield from _missing(drawn, folder, exhibits, share, shares)
        if not self._processes:
            yield from _missing([], folder, exhibits, 0, 1)


def _begun() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "src.reporting.draughtsmen"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what goes wrong there goes wrong here once more
        env=os.environ | import_environment(),
        start_new_session=True,  # Ctrl-C is the command's
    )


def _missing(
    drawn: list[Path], folder: Path, exhibits: Exhibits, share: int, shares: int
) -> Iterator[Path]:
    from src.reporting.comparison_figures import draw_comparison_figures

    paths = draw_comparison_figures(folder, exhibits, share, shares)
    return (path for path in paths if path not in drawn)


def main() -> None:
    """Draw what standard input brings, a name a line; nothing if it ends before."""
    from src.reporting.comparison_figures import draw_comparison_figures

    with suppress(EOFError):
        for path in draw_comparison_figures(*pickle.load(sys.stdin.buffer)):
            print(path.name, flush=True)


if __name__ == "__main__":
    main()
