"""Runs of the command line in processes of their own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["digest_of", "lines_of", "python", "trained"]

_ROOT = Path(__file__).resolve().parents[1]


def python(*words: str) -> str:
    """What a Python process of the checkout printed; ends the measurement if it fails."""
    done = subprocess.run(
        [sys.executable, *words], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stderr}")
    return done.stdout


def lines_of(*words: str) -> Iterator[str]:
    """What a Python process of the checkout prints, as it prints; ends as `python` does."""
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        yield from process.stdout
        error = process.stderr.read()
    if process.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{error}")


def trained(*words: str) -> dict[str, Any]:
    """The summary of `python -m src.train WORDS`, whose folder is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        said = python("-m", "src.train", f"output_dir={folder}", *words)
        path = said.splitlines()[-1].removeprefix("summary: ")
        summary: dict[str, Any] = json.loads(Path(path).read_text())
        return summary


def digest_of(places: Sequence[Path]) -> str:
    """Return 12 hex digits of files, and of the Python and YAML in folders."""
    digest = hashlib.sha256()
    for place in places:
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if not place.is_dir() or file.suffix in (".py", ".yaml"):
                digest.update(file.relative_to(place).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]
