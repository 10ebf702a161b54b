"""What the libraries read from the environment is nowhere in what a sweep leaves behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.entries.commands import complete
from tests.entries.conftest import Outputs
from tests.entries.sweeps import OVERRIDES
from tests.warm_python import WarmPython

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "somebody-x7Qz",
    "MLFLOW_TRACKING_PASSWORD": "password-x7Qz",
    "MLFLOW_TRACKING_TOKEN": "token-x7Qz",
    "PGPASSWORD": "database-x7Qz",
    "HF_TOKEN": "hub-x7Qz",
    "AWS_SECRET_ACCESS_KEY": "bucket-x7Qz",
}


def test_neither_files_nor_the_terminal_hold_a_secret(
    environment: dict[str, str], warm_python: WarmPython, outputs: Outputs, tmp_path: Path
) -> None:
    output_dir, cache = outputs("secret"), tmp_path / "cache"
    place = f"output_dir={output_dir}"
    secret = environment | SECRETS | {"BAKEOFF_CACHE": str(cache)}

    def typed(module: str, *overrides: str) -> int:
        nonlocal printed
        result = warm_python.run(module, [*overrides, place], secret)
        printed += result.stdout + result.stderr
        return result.returncode

    sweep = [*OVERRIDES, "budget.trials=1", "finalist_seeds=1", "trainer.max_epochs=1"]
    sweep.append("tracking.figures=true")
    # From nothing, as libraries may read some of them when they are imported.
    whole = complete([sys.executable, "-m", "src.sweep", *sweep, place], secret)
    assert whole.returncode == 0, whole.stderr
    printed = whole.stdout + whole.stderr
    for address in ("http://me:password-x7Qz@host", "postgresql://h/d?password=database-x7Qz"):
        assert typed("src.sweep", *sweep, "study=other", f"storage={address}") == 2
        assert typed("src.train", f"tracking.uri={address}") == 2
        assert typed("src.tracking.replay", f"tracking.uri={address}") == 2
    assert typed("src.compare", "sweep=s") == 0, printed
    assert "x7Qz" not in printed
    files = [path for folder in (output_dir, cache) for path in folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    for kept in ("mlflow.db", "study.journal", "sweep.html", "spool.jsonl", "provenance.json"):
        assert kept in names
    assert [path for path in files if b"x7Qz" in path.read_bytes()] == []
