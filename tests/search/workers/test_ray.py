from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.search.jobs import Ending, Job, Note, Report
from src.search.pool import Event, Pool, WorkersFail
from src.search.workers.ray import RayEngine, Share, share
from tests.search.workers.rays import ray_or_skip

_ROOT = Path(__file__).resolve().parents[3]
_RUNNER = "tests.search.runners:Tiny"
_MIB = 2**20


def _share(nodes: Sequence[tuple[float, float]], **given: Any) -> Share:
    usual: dict[str, Any] = {
        "count": None,
        "per_gpu": 1,
        "devices_per_trial": 1,
        "threads": None,
        "use_gpus": True,
    }
    return share(nodes, **(usual | given))


class TestShare:
    def test_without_gpus_a_slot_a_core(self) -> None:
        assert _share([(4, 0), (2, 0)]) == Share(6, 1, 1, 0.0)

    def test_named_threads_are_not_split_over_nodes(self) -> None:
        assert _share([(4, 0), (3, 0)], threads=2) == Share(3, 2, 2, 0.0)

    def test_a_named_count_shares_the_cores(self) -> None:
        assert _share([(8, 0), (8, 0)], count=4) == Share(4, 4, 4, 0.0)

    def test_a_slot_a_gpu_with_its_share_of_the_cores(self) -> None:
        assert _share([(8, 2), (16, 0), (12, 2)]) == Share(4, 4, 4, 1.0)

    def test_several_slots_a_gpu(self) -> None:
        assert _share([(8, 2)], per_gpu=4) == Share(8, 1, 1, 0.25)

    def test_gpus_left_alone(self) -> None:
        assert _share([(4, 4)], use_gpus=False) == Share(4, 1, 1, 0.0)

    def test_several_gpus_a_trial_stay_on_one_node(self) -> None:
        assert _share([(8, 3), (8, 2)], devices_per_trial=2) == Share(2, 4, 8, 2.0)

    def test_fewer_cores_than_slots(self) -> None:
        assert _share([(2, 4)]) == Share(4, 1, 0.5, 1.0)

    @pytest.mark.parametrize(
        ("nodes", "given", "message"),
        [
            ([(4, 1), (4, 1)], {"devices_per_trial": 2}, "trainer.devices is 2"),
            ([(4, 2)], {"devices_per_trial": 2, "per_gpu": 2}, "workers.per_gpu=1"),
            ([(4, 0), (2, 0)], {"threads": 8}, "needs 8 CPUs"),
            ([], {}, "needs 1 CPUs"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, nodes: list[tuple[float, float]], given: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            _share(nodes, **given)

    @given(
        nodes=st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=6),
        per_gpu=st.integers(1, 4),
        use_gpus=st.booleans(),
    )
    def test_all_slots_find_room_at_the_same_time(
        self, nodes: list[tuple[int, int]], per_gpu: int, use_gpus: bool
    ) -> None:
        found = _share([*nodes], per_gpu=per_gpu, use_gpus=use_gpus)
        tiny = 1e-9
        room = 0
        for cpus, gpus in nodes:
            by_gpu = int(gpus / found.gpus + tiny) if found.gpus else 10**9
            room += min(by_gpu, int(cpus / found.cpus + tiny))
        assert room >= found.count


class TestRefused:
    def _engine(self, folder: Path, address: str) -> RayEngine:
        return RayEngine(_RUNNER, address=address, folder=folder, divide=_share)

    def test_a_path_with_a_space_that_ray_would_cut(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("ray", reason="the extra `ray` is not installed")
        monkeypatch.setattr(sys, "executable", "/home/me/my project/.venv/bin/python")
        with pytest.raises(ValueError, match=r"my project/.venv/bin/python, because there is a sp"):
            self._engine(tmp_path, "127.0.0.1:6379")

    def test_without_ray(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(ValueError, match=r"make install EXTRAS=ray$"):
            self._engine(tmp_path, "127.0.0.1:6379")

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
            self._engine(tmp_path, address)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU and one pretended GPU each."""
    ray_or_skip()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * _MIB}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()


def _engine(
    cluster: Any, folder: Path, *, use_gpus: bool = False, runner: str = _RUNNER
) -> RayEngine:
    divide = partial(_share, use_gpus=use_gpus)
    return RayEngine(runner, address=cluster.address, folder=folder, divide=divide)


def _until(pool: Pool, done: Callable[[list[Event]], bool], seconds: float = 90) -> list[Event]:
    """What is said until then; reports are answered."""
    said: list[Event] = []
    deadline = time.monotonic() + seconds
    while not done(said):
        assert time.monotonic() < deadline, said
        for event in pool.events(0.1):
            said.append(event)
            if isinstance(event.message, Report):
                pool.answer(event.slot, None)
    return said


def _of(kind: type, said: list[Event]) -> list[Any]:
    return [event for event in said if isinstance(event.message, kind)]


def _begun(said: list[Event]) -> list[Any]:
    """The first note of each job."""
    return [event for event in _of(Note, said) if "pid" in event.message.facts]


def _pids(cluster: Any) -> list[int]:
    """The workers' processes on all nodes."""
    found = []
    for node in cluster.list_all_nodes():
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for child in raylet.children():
            with contextlib.suppress(psutil.Error):
                if " ".join(child.cmdline()).startswith("ray::_work"):
                    found.append(child.pid)
    return found


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.mark.slow
class TestOnTwoNodes:
    def test_each_worker_has_a_node_of_its_own_its_gpu_and_its_threads(
        self, cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def mine(signum: int, frame: object) -> None: ...

        before = signal.signal(signal.SIGTERM, mine)
        try:
            pool = Pool(_engine(cluster, tmp_path, use_gpus=True))
            assert signal.getsignal(signal.SIGTERM) is mine
        finally:
            signal.signal(signal.SIGTERM, before)
        try:
            assert pool.size == 2
            pool.start()
            _until(pool, lambda _: len(pool.free()) == 2)
            for slot in (0, 1):
                pool.give(slot, Job({"seconds": 0.1}, epochs=2))
            said = _until(pool, lambda said: len(_of(Ending, said)) == 2)
        finally:
            pool.close()
        facts = [event.message.facts for event in _begun(said)]
        assert len({fact["node"] for fact in facts}) == 2
        assert [fact["CUDA_VISIBLE_DEVICES"] for fact in facts] == ["0", "0"]
        assert [fact["OMP_NUM_THREADS"] for fact in facts] == ["1", "1"]
        assert {fact["folder"] for fact in facts} == {str(Path.cwd())}
        assert all(e.message.state == "complete" for e in _of(Ending, said))
        assert "a line of output" in (tmp_path / "worker-0.log").read_text()
        _wait(lambda: not _pids(cluster), 10, "a worker outlived its pool")
        assert "ray" not in "".join(capfd.readouterr()), "Ray printed"

    def test_a_killed_worker_costs_its_job_alone(self, cluster: Any, tmp_path: Path) -> None:
        pool = Pool(_engine(cluster, tmp_path))
        try:
            pool.start()
            _until(pool, lambda _: len(pool.free()) == 2)
            for slot in (0, 1):
                pool.give(slot, Job({"seconds": 0.5}, epochs=3))
            said = _until(pool, lambda said: len(_begun(said)) == 2)
            victim = _begun(said)[0]
            os.kill(victim.message.facts["pid"], signal.SIGKILL)
            said = _until(pool, lambda said: len(_of(Ending, said)) == 2)
            ends = {e.slot: e.message for e in _of(Ending, said)}
            lost = ends.pop(victim.slot)
            assert lost.state == "lost" and "its worker was killed" in lost.reason
            (other,) = ends.values()
            assert other.state == "complete"
            _until(pool, lambda _: len(pool.free()) == 2)  # a new one took its place
        finally:
            pool.close()

    def test_a_node_that_does_not_share_the_folder_is_named(
        self, cluster: Any, tmp_path: Path
    ) -> None:
        pool = Pool(_engine(cluster, tmp_path))
        (tmp_path / "driver").unlink()
        try:
            pool.start()
            with pytest.raises(WorkersFail, match="output_dir must be in a folder that all nodes"):
                _until(pool, lambda _: False)
        finally:
            pool.close()

    def test_a_worker_that_cannot_begin_says_why(self, cluster: Any, tmp_path: Path) -> None:
        pool = Pool(_engine(cluster, tmp_path, runner="tests.search.nowhere:runner"))
        try:
            pool.start()
            with pytest.raises(WorkersFail, match=r"ended on .*No module named 'tests.search.now"):
                _until(pool, lambda _: False)
        finally:
            pool.close()
        assert "Traceback" in (tmp_path / "worker-0.log").read_text()

    def test_a_node_that_goes_takes_its_worker_only(self, cluster: Any, tmp_path: Path) -> None:
        third = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 * _MIB)
        pool = Pool(_engine(cluster, tmp_path))
        try:
            assert pool.size == 3
            pool.start()
            _until(pool, lambda _: len(pool.free()) == 3)
            for slot in range(3):
                pool.give(slot, Job({"seconds": 0.5}, epochs=4))
            _until(pool, lambda said: len(_begun(said)) == 3)
            cluster.remove_node(third, allow_graceful=False)
            said = _until(pool, lambda said: len(_of(Ending, said)) == 3)
            states = sorted(e.message.state for e in _of(Ending, said))
            assert states == ["complete", "complete", "lost"]
            # What waits for room that nobody has disturbs nobody.
            slot = pool.free()[0]
            pool.give(slot, Job({"seconds": 0.1}, epochs=1))
            (end,) = _of(Ending, _until(pool, lambda said: bool(_of(Ending, said))))
            assert end.message.state == "complete"
        finally:
            pool.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_on_the_cluster_survives_its_workers_and_its_driver(
    cluster: Any, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-m", "src.sweep", "workers=ray", f"workers.address={cluster.address}"),
        *(f"output_dir={tmp_path}", "families=[mlp]", "budget.trials=3", "budget.minutes=null"),
        *("finalists=1", "finalist_seeds=1", "trainer.max_epochs=12", "data.batch_size=32"),
        *("pruner=none", "runtime=float32", "tracking=none", "search=[optimizer.lr]"),
    ]
    folder = tmp_path / "sweeps" / "default"
    journal = folder / "study.journal"

    def said(words: str) -> Callable[[], bool]:
        return lambda: journal.is_file() and words in journal.read_text()

    with (tmp_path / "driver.log").open("w") as log:
        driver = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log)
    try:
        _wait(said('"op_code":7'), 200, "no trial reported an epoch")
        for pid in _pids(cluster):
            os.kill(pid, signal.SIGKILL)
        _wait(said('"lost":1'), 60, "no trial was tried again")
        _wait(said('"step":2'), 60, "no trial went on")
    finally:
        driver.kill()
        driver.wait()
    _wait(lambda: not _pids(cluster), 15, "a worker outlived its driver")

    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((folder / "sweep.json").read_text())
    assert [trial["number"] for trial in record["trials"]] == [0, 1, 2]
    assert {trial["state"] for trial in record["trials"]} == {"complete"}
    assert "raylet" not in done.stdout + done.stderr
    assert "worker-0.log" in {path.name for path in (folder / "workers").iterdir()}
