"""Sweeps over two hosts that share no disk."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.runs.seal import changed_since, read_seal
from tests.search.workers.hosts import ENVIRONMENT, TwoHosts
from tests.warm_python import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def hosts() -> Iterator[TwoHosts]:
    both = TwoHosts()
    try:
        both.start_second()
        both.start_head()
        both.start_node()
        yield both
    finally:
        both.close()


def _sweep(hosts: TwoHosts, study: str, *words: str) -> list[str]:
    return [
        *(sys.executable, "-m", "src.sweep", f"study={study}", "workers=ray"),
        *(f"workers.address={hosts.address}", f"output_dir={hosts.folder / 'outputs'}"),
        *("families=[mlp]", "budget.minutes=null", "pruner=none", "runtime=float32"),
        *("search=[optimizer.lr]", *words),
    ]


def _record(hosts: TwoHosts, study: str) -> dict[str, Any]:
    content = (hosts.folder / "outputs" / "sweeps" / study / "sweep.json").read_text()
    record: dict[str, Any] = json.loads(content)
    return record


def test_runs_of_the_second_host_come_home_whole(hosts: TwoHosts) -> None:
    words = ("budget.trials=4", "finalists=1", "finalist_seeds=1", "trainer.max_epochs=3")
    subprocess.run(
        _sweep(hosts, "home", *words, "tracking=none"), cwd=ROOT, env=ENVIRONMENT, check=True
    )
    record = _record(hosts, "home")
    assert [trial["state"] for trial in record["trials"]] == ["complete"] * 4
    assert record["test"]["test/accuracy"] > 0.5
    folders = [Path(trial["run_dir"]) for trial in record["trials"]]
    folders += [Path(one) for found in record["finalists"] for one in found["run_dirs"].values()]
    runs = hosts.folder / "outputs" / "runs"
    assert sorted(folders) == sorted(runs.iterdir())
    for folder in folders:
        assert read_seal(folder) is not None and changed_since(folder) is None
        assert not hosts.second_has(folder)
    logs = hosts.folder / "outputs" / "sweeps" / "home" / "workers"
    assert "epoch 3/3" in (logs / "worker-0.log").read_text()
    assert "epoch 3/3" in (logs / "worker-1.log").read_text()
