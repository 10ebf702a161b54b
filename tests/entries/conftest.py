"""Real processes: what a person types, and what is there afterwards."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Outputs
from tests.warm_python import Command, WarmPython

_LATE = re.compile(
    r"has not confirmed it yet\. .*python -m src\.tracking\.replay (.*)$", re.MULTILINE
)
# Enough for the default recipe, whose averaged weights need some steps.
EPOCHS = 5
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Begin = Callable[..., Command]
Train = Callable[..., Path]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the commands: one thread, and a cache of their own."""
    cache = tmp_path_factory.mktemp("cache")
    return os.environ | {"BAKEOFF_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def run(environment: dict[str, str], warm_python: WarmPython) -> Run:
    """`run("src.train", "seed=1")` types `python -m src.train seed=1` in the checkout.

    On a busy machine a command may end before MLflow has its run: then what it says is typed too.
    """

    def typed(module: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        done = warm_python.run(module, overrides, environment)
        late = _LATE.search(done.stderr)
        while late is not None:
            sent = warm_python.run("src.tracking.replay", shlex.split(late[1]), environment)
            assert sent.returncode == 0, sent.stdout + sent.stderr
            if "another process is sending it" not in sent.stdout:
                break
        return done

    return typed


@pytest.fixture(scope="session")
def train(run: Run) -> Train:
    """`train(output_dir, "seed=1")` is the folder of the finished run."""

    def trained(output_dir: Path, *overrides: str) -> Path:
        result = run("src.train", *overrides, f"output_dir={output_dir}")
        assert result.returncode == 0, result.stderr
        label, _, summary = result.stdout.splitlines()[-1].partition(": ")
        assert label == "summary"
        return Path(summary).parent

    return trained


@pytest.fixture
def begin(environment: dict[str, str], warm_python: WarmPython) -> Iterator[Begin]:
    """`begin("src.train", "seed=1")` does not wait; its process group ends with the test."""
    begun: list[Command] = []

    def typed(module: str, *overrides: str, **variables: str) -> Command:
        begun.append(warm_python.begin(module, overrides, environment | variables))
        return begun[-1]

    yield typed
    for command in begun:
        if command.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def trained(train: Train, outputs: Outputs) -> Path:
    """The folder of a short run on the digits, finished and mirrored in MLflow."""
    return train(outputs("a run"), "model=cnn", f"trainer.max_epochs={EPOCHS}")


@pytest.fixture(scope="session")
def fitted(train: Train, outputs: Outputs) -> Path:
    """The same of a classifier on hand-crafted features."""
    return train(outputs("hand crafted"), "model=handcrafted")
