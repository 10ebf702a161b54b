from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from src.search.jobs import Job
from src.search.pool import Pool
from src.search.workers.ray import RayEngine
from src.tracking.spool import writer_lock
from tests.entries.commands import free_port
from tests.search.workers.pools import (
    RUNNER,
    WORKERS,
    begun,
    endings,
    gone,
    ray_or_skip,
    wait_free,
    wait_until,
)

_ROOT = Path(__file__).resolve().parents[3]
_MIB = 2**20
# Whether there is a token in the home folder of whoever runs this should play no part.
_ENVIRONMENT = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
_AGENTS = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")


def _engine(address: str | None, folder: Path, *, use_gpus: bool = True) -> RayEngine:
    settings = replace(WORKERS, address=address)
    return RayEngine(settings, RUNNER, folder, devices=1, use_gpus=use_gpus, lock_of=writer_lock)


class TestRefused:
    def test_a_path_with_a_space_that_ray_would_cut(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("ray", reason="the extra `ray` is not installed")
        monkeypatch.setattr(sys, "executable", "/home/me/my project/.venv/bin/python")
        with pytest.raises(ValueError, match=r"my project/.venv/bin/python, because there is a sp"):
            _engine("127.0.0.1:6379", tmp_path)

    def test_without_ray(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(ValueError, match=r"make install EXTRAS=ray$"):
            _engine("127.0.0.1:6379", tmp_path)

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("127.0.0.1:1", r"127.0.0.1:1 does not answer: Connection refused$"),
            ("127.0.0.1", "must be HOST:PORT"),
            ("ray://127.0.0.1:10001", "on a node of the cluster"),
        ],
    )
    def test_a_cluster_that_cannot_be_reached(
        self, tmp_path: Path, address: str, message: str
    ) -> None:
        ray_or_skip()
        with pytest.raises(ValueError, match=message):
            _engine(address, tmp_path)

    @pytest.mark.parametrize("address", ["auto", None])
    def test_one_that_has_died_is_not_waited_for(
        self, tmp_path: Path, address: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ray_or_skip()
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        note = tmp_path / "ray" / "ray_current_cluster"
        note.parent.mkdir()
        note.write_text("127.0.0.1:1")
        with pytest.raises(ValueError, match=r"127.0.0.1:1.*does not answer: Connection refused"):
            _engine(address, tmp_path)


def _sweep(address: str, output_dir: Path, *overrides: str) -> list[str]:
    return [
        *(sys.executable, "-m", "src.sweep", "workers=ray", f"workers.address={address}"),
        *(f"output_dir={output_dir}", "families=[mlp]", "budget.minutes=null", "pruner=none"),
        *("runtime=float32", "tracking=none", "search=[optimizer.lr]", *overrides),
    ]


def _finished(command: list[str], folder: Path, trials: int) -> str:
    """What a sweep printed that came to its end with so many trials."""
    done = subprocess.run(
        command, cwd=_ROOT, env=_ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((folder / "sweep.json").read_text())
    assert [trial["number"] for trial in record["trials"]] == list(range(trials))
    assert {trial["state"] for trial in record["trials"]} == {"complete"}
    return done.stdout + done.stderr


@contextmanager
def _head(port: int) -> Iterator[None]:
    """A cluster of one node with one CPU, all of which is killed at the end."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *(f"--port={port}", "--num-cpus=1", "--num-gpus=0"),
        *("--include-dashboard=false", f"--object-store-memory={80 * _MIB}"),
        # Ports that are not given are waited for, fifteen seconds and no more: too short for a
        # machine that has other work.
        *(f"--{name}-port={free_port()}" for name in _AGENTS),
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


# Before there is the cluster of the tests below: two at the same time get into each other's way.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_says_that_its_cluster_went_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    ray = ray_or_skip()
    port = free_port()
    address = f"{ray.util.get_node_ip_address()}:{port}"
    command = _sweep(
        *(address, tmp_path, "budget.trials=2", "finalists=0", "trainer.max_epochs=30"),
        "data.batch_size=16",
    )
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
        _finished(command, folder, 2)
    # No epoch that was known was trained again.
    assert journal.read_text().count('"op_code":7') == 2 * 30 > reported


def _actors(cluster: Any) -> dict[int, list[int]]:
    """The processes of actors on all nodes, each with its worker's."""
    found = {}
    for node in cluster.list_all_nodes():
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for actor in raylet.children():
            with suppress(psutil.Error):
                if " ".join(actor.cmdline()).startswith("ray::RaySlot"):
                    found[actor.pid] = [child.pid for child in actor.children()]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
class TestOnTwoNodes:
    def test_each_worker_has_a_node_of_its_own_its_gpu_and_its_threads(
        self,
        cluster: Any,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def mine(signum: int, frame: object) -> None: ...

        monkeypatch.setenv("BAKEOFF_PLUGINS", "plugin-of-the-driver")
        before = signal.signal(signal.SIGTERM, mine)
        try:
            engine = _engine(cluster.address, tmp_path)
            assert signal.getsignal(signal.SIGTERM) is mine
        finally:
            signal.signal(signal.SIGTERM, before)
        with closing(Pool(engine)) as pool:
            assert pool.size == 2
            pool.start()
            wait_free(pool, 2)
            for slot in (0, 1):
                pool.give(slot, Job({"seconds": 0.1}, epochs=2))
            facts = list(begun(pool, 2).values())
            assert all(end.state == "complete" for end in endings(pool, until=2).values())
        assert len({fact["node"] for fact in facts}) == 2
        assert [fact["CUDA_VISIBLE_DEVICES"] for fact in facts] == ["0", "0"]
        assert [fact["OMP_NUM_THREADS"] for fact in facts] == ["1", "1"]
        assert {fact["BAKEOFF_PLUGINS"] for fact in facts} == {"plugin-of-the-driver"}
        assert {fact["folder"] for fact in facts} == {str(Path.cwd())}
        assert "a line of output" in (tmp_path / "worker-0.log").read_text()
        wait_until(lambda: not _actors(cluster), 10, "an actor outlived its pool")
        assert "ray" not in "".join(capfd.readouterr()), "Ray printed"

    def test_a_killed_actor_costs_its_job_alone(self, cluster: Any, tmp_path: Path) -> None:
        with closing(Pool(_engine(cluster.address, tmp_path, use_gpus=False))) as pool:
            pool.start()
            wait_free(pool, 2)
            for slot in (0, 1):
                pool.give(slot, Job({"seconds": 0.5}, epochs=3))
            workers = {facts["pid"]: slot for slot, facts in begun(pool, 2).items()}
            actor, (worker, *_) = next(iter(_actors(cluster).items()))
            os.kill(actor, signal.SIGKILL)
            ends = endings(pool, until=2)
            lost = ends.pop(workers[worker])
            assert lost.state == "gone" and str(lost.reason).startswith("its worker")
            assert [end.state for end in ends.values()] == ["complete"]
            wait_until(lambda: gone(worker), 10, "a worker outlived its actor")
            wait_free(pool, 2)  # a new one took its place

    def test_a_node_that_goes_takes_its_worker_only(self, cluster: Any, tmp_path: Path) -> None:
        third = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 * _MIB)
        with closing(Pool(_engine(cluster.address, tmp_path))) as pool:
            assert pool.size == 3
            pool.start()
            wait_free(pool, 3)
            for slot in range(3):
                pool.give(slot, Job({"seconds": 0.5}, epochs=4))
            begun(pool, 3)
            cluster.remove_node(third, allow_graceful=False)
            states = sorted(end.state for end in endings(pool, until=3).values())
            assert states == ["complete", "complete", "gone"]
            # What waits for room that nobody has disturbs nobody.
            slot = pool.free()[0]
            pool.give(slot, Job({"seconds": 0.1}, epochs=1))
            assert endings(pool)[slot].state == "complete"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_on_the_cluster_survives_its_workers_and_its_driver(
    cluster: Any, tmp_path: Path
) -> None:
    command = _sweep(
        *(cluster.address, tmp_path, "budget.trials=3", "finalists=1", "finalist_seeds=1"),
        *("trainer.max_epochs=12", "data.batch_size=32"),
    )
    folder = tmp_path / "sweeps" / "default"
    journal = folder / "study.journal"

    def said(overrides: str) -> Callable[[], bool]:
        return lambda: journal.is_file() and overrides in journal.read_text()

    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log)
    try:
        wait_until(said('"op_code":7'), 200, "no trial reported an epoch")
        for pid in itertools.chain(*_actors(cluster).values()):
            os.kill(pid, signal.SIGKILL)
        wait_until(said('"lost":1'), 200, "no trial was tried again")
        wait_until(said('"step":2'), 200, "no trial went on")
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not _actors(cluster), 15, "a worker outlived its driver")

    assert "raylet" not in _finished(command, folder, 3)
    assert "worker-0.log" in {path.name for path in (folder / "workers").iterdir()}
