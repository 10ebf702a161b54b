"""Real processes: what a person types, and what is there afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.entries.commands import ROOT
from tests.warm_python import WarmPython

# Enough for the default recipe, whose averaged weights need some steps.
EPOCHS = 5
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Begin = Callable[..., "subprocess.Popen[str]"]
Train = Callable[..., Path]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the commands: one thread, and a cache of their own."""
    cache = tmp_path_factory.mktemp("cache")
    return os.environ | {"BAKEOFF_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run(environment: dict[str, str], warm_python: WarmPython) -> Run:
    """`run("src.train", "seed=1")` types `python -m src.train seed=1` in the checkout."""

    def typed(module: str, *words: str) -> subprocess.CompletedProcess[str]:
        return warm_python.run(module, words, environment)

    return typed


@pytest.fixture(scope="session")
def train(run: Run) -> Train:
    """`train(output_dir, "seed=1")` is the folder of the finished run."""

    def trained(output_dir: Path, *words: str) -> Path:
        result = run("src.train", *words, f"output_dir={output_dir}")
        assert result.returncode == 0, result.stderr
        label, _, summary = result.stdout.splitlines()[-1].partition(": ")
        assert label == "summary"
        return Path(summary).parent

    return trained


@pytest.fixture
def begin(environment: dict[str, str]) -> Iterator[Begin]:
    """`begin("src.train", "seed=1")` does not wait; its process group ends with the test."""
    begun: list[subprocess.Popen[str]] = []

    def typed(module: str, *words: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            env=environment | variables,
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
def trained(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run on the digits, finished and mirrored in MLflow."""
    return train(tmp_path_factory.mktemp("a run"), "model=cnn", f"trainer.max_epochs={EPOCHS}")


@pytest.fixture(scope="session")
def fitted(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a classifier on hand-crafted features."""
    return train(tmp_path_factory.mktemp("hand crafted"), "model=handcrafted")
