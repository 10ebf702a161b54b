"""How OpenMP's threads wait is said before anything loads OpenMP, and the user's word holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import src
from src.openmp import WAITING, wait_briefly

ROOT = Path(src.__file__).resolve().parents[1]
VARIABLES = ("OMP_WAIT_POLICY", *WAITING)

# An import hook writes the variables down at the moment when the first library with an OpenMP of
# its own is imported.
_HOOKED = """
import json, os, runpy, sys

class Hook:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "sklearn"):
            found = {key: os.environ.get(key) for key in VARIABLES}
            os.write(int(sys.argv[-1]), (json.dumps(found) + "\\n").encode())
            os._exit(0)

sys.meta_path.insert(0, Hook())
module, *words = sys.argv[1:-1]
sys.argv[1:] = [*words, *sys.argv[-1:]] if module.startswith("src.search") else words
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    os.write(2, f"ended with {end.code} before torch was imported".encode())
"""


def at_the_import(module: str, *words: str, environment: dict[str, str], cwd: Path) -> str:
    """The variables, as JSON, when a process of this module imports torch or scikit-learn."""
    inherited = {key: value for key, value in os.environ.items() if key not in VARIABLES}
    reading, writing = os.pipe()
    code = f"VARIABLES = {VARIABLES!r}\n{_HOOKED}"
    process = subprocess.run(
        [sys.executable, "-c", code, module, *words, str(writing)],
        env=inherited | {"PYTHONPATH": str(ROOT), "BAKEOFF_CACHE": str(cwd)} | environment,
        cwd=cwd,
        pass_fds=[writing],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    assert found, process.stderr
    return found
