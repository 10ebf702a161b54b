"""The head of a Ray cluster dies in the middle of a sweep."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.search.workers.rays import ray_or_skip

_ROOT = Path(__file__).resolve().parents[3]
_MIB = 2**20
# Whether there is a token in the home folder of whoever runs this should play no part.
_ENVIRONMENT = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
_AGENTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def _head(port: int) -> Iterator[None]:
    """A cluster of one node with one CPU, all of which is killed at the end."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *(f"--port={port}", "--num-cpus=1", "--num-gpus=0"),
        *("--include-dashboard=false", f"--object-store-memory={80 * _MIB}"),
        # Ports that are not given are waited for, fifteen seconds and no more: too short for a
        # machine that has other work.
        *(f"--{name}-port={_free_port()}" for name in _AGENTS),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_ENVIRONMENT
    ) as head:
        try:
            assert head.stdout is not None
            said: list[str] = []
            while "Ray runtime started" not in "".join(said):
                said.append(head.stdout.readline())
                assert said[-1], f"Ray does not start: {''.join(said)}"
            yield
        finally:
            for process in [*psutil.Process(head.pid).children(recursive=True), head]:
                with suppress(psutil.Error):
                    process.kill()


def test_a_sweep_says_that_its_cluster_went_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    ray = ray_or_skip()
    port = _free_port()
    address = f"{ray.util.get_node_ip_address()}:{port}"
    command = [
        *(sys.executable, "-m", "src.sweep", "workers=ray", f"workers.address={address}"),
        *(f"output_dir={tmp_path}", "families=[mlp]", "budget.trials=2", "budget.minutes=null"),
        *("finalists=0", "trainer.max_epochs=30", "data.batch_size=16", "pruner=none"),
        *("runtime=float32", "tracking=none", "search=[optimizer.lr]"),
    ]
    folder = tmp_path / "sweeps" / "default"
    journal = folder / "study.journal"
    with _head(port):
        driver = subprocess.Popen(
            command,
            cwd=_ROOT,
            env=_ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not (journal.is_file() and '"op_code":7' in journal.read_text()):
            assert driver.poll() is None, driver.communicate()
            time.sleep(0.1)
    _, error = driver.communicate(timeout=120)
    assert driver.returncode == 1 and "Traceback" not in error, error
    assert error.splitlines()[-1] == (
        f"error: the Ray cluster {address} does not answer any more: Connection refused; "
        "once it does, the same command goes on; each worker's output is in "
        f"{folder / 'workers'}"
    )
    reported = journal.read_text().count('"op_code":7')

    with _head(port):
        done = subprocess.run(
            command, cwd=_ROOT, env=_ENVIRONMENT, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((folder / "sweep.json").read_text())
    assert [trial["number"] for trial in record["trials"]] == [0, 1]
    assert {trial["state"] for trial in record["trials"]} == {"complete"}
    # No epoch that was known was trained again.
    assert journal.read_text().count('"op_code":7') == 2 * 30 > reported
