"""Real processes: what a person types, and what is there afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.warm_python import Command, WarmPython

# Enough for the default recipe, whose averaged weights need some steps.
EPOCHS = 5
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Begin = Callable[..., Command]
Train = Callable[..., Path]
Outputs = Callable[[str], Path]


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
def begin(environment: dict[str, str], warm_python: WarmPython) -> Iterator[Begin]:
    """`begin("src.train", "seed=1")` does not wait; its process group ends with the test."""
    begun: list[Command] = []

    def typed(module: str, *words: str, **variables: str) -> Command:
        begun.append(warm_python.begin(module, words, environment | variables))
        return begun[-1]

    yield typed
    for command in begun:
        if command.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Outputs:
    """`outputs("name")` makes an output folder with a database to mirror runs in."""

    def made(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        shutil.copy(empty_database, folder)
        return folder

    return made


@pytest.fixture(scope="session")
def trained(train: Train, outputs: Outputs) -> Path:
    """The folder of a short run on the digits, finished and mirrored in MLflow."""
    return train(outputs("a run"), "model=cnn", f"trainer.max_epochs={EPOCHS}")


@pytest.fixture(scope="session")
def fitted(train: Train, outputs: Outputs) -> Path:
    """The same of a classifier on hand-crafted features."""
    return train(outputs("hand crafted"), "model=handcrafted")
