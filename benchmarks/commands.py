"""Runs of the command line in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from src.machine.subprocesses import ROOT
from src.storage.files import write_atomically

__all__ = ["digest_of", "environment", "kept_answer", "lines_of", "python", "trained", "trained_in"]

A = TypeVar("A")


def python(*overrides: str) -> str:
    """What a Python process of the checkout printed; ends the measurement if it fails."""
    done = subprocess.run(
        [sys.executable, *overrides], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(overrides)} failed:\n{done.stderr}")
    return done.stdout


def lines_of(*overrides: str) -> Iterator[str]:
    """What a Python process of the checkout prints, as it prints; ends as `python` does."""
    with subprocess.Popen(
        [sys.executable, *overrides],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        yield from process.stdout
        error = process.stderr.read()
    if process.returncode:
        sys.exit(f"{' '.join(overrides)} failed:\n{error}")


def trained(*overrides: str) -> dict[str, Any]:
    """The summary of `python -m src.train WORDS`, whose folder is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        run = trained_in(folder, *overrides)
        summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
        return summary


def trained_in(output_dir: Path | str, *overrides: str) -> Path:
    """The run folder of `python -m src.train WORDS`."""
    said = python("-m", "src.train", f"output_dir={output_dir}", *overrides)
    return Path(said.splitlines()[-1].removeprefix("summary: ")).parent


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables of this process's environment within the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def kept_answer(file: Path, kind: type[A], ask: Callable[[], A]) -> A:
    """Return the answer, a dataclass of plain values, that a file keeps; ask for it once."""
    if not file.exists():
        print(f"  {file.parent.name}, {file.stem} ...", flush=True)
        write_atomically(file, json.dumps(asdict(ask())))  # type: ignore[call-overload]
    return kind(**json.loads(file.read_text()))


def digest_of(places: Sequence[Path]) -> str:
    """Return 12 hex digits of files, and of the Python and YAML in folders."""
    digest = hashlib.sha256()
    for place in places:
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if not place.is_dir() or file.suffix in (".py", ".yaml"):
                digest.update(file.relative_to(place).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]
