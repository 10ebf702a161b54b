"""Real processes: what a person types, and what is there afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.warm_python import WarmPython

ROOT = Path(__file__).resolve().parents[2]
# Enough for the default recipe, whose averaged weights need some steps.
EPOCHS = 5
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the commands: one thread, and a cache of their own."""
    cache = tmp_path_factory.mktemp("cache")
    return os.environ | {"BAKEOFF_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run(environment: dict[str, str]) -> Iterator[Run]:
    """`run("src.train", "seed=1")` types `python -m src.train seed=1` in the checkout."""
    python = WarmPython(environment)

    def typed(module: str, *words: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        return python.run(module, words, timeout)

    yield typed
    python.close()


@pytest.fixture
def begin(environment: dict[str, str]) -> Iterator[Begin]:
    """`begin("src.train", "seed=1")` does not wait; its process group ends with the test."""
    begun: list[subprocess.Popen[str]] = []

    def typed(module: str, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield typed
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="session")
def trained(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run on the digits, finished and mirrored in MLflow."""
    output_dir = tmp_path_factory.mktemp("a run")
    words = ["model=cnn", f"trainer.max_epochs={EPOCHS}", f"output_dir={output_dir}"]
    result = run("src.train", *words)
    assert result.returncode == 0, result.stderr
    label, _, summary = result.stdout.splitlines()[-1].partition(": ")
    assert label == "summary"
    return Path(summary).parent
