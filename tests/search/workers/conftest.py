from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src.search.pool import Pool
from src.search.workers.local import LocalEngine
from src.search.workers.ray import RayEngine
from src.search.workers.slots import Slot
from src.tracking.spool import writer_lock
from tests.search.workers.pools import WORKERS, ray_or_skip

_MIB = 2**20
_ENGINES = ["local", pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.timeout(300)])]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU and one pretended GPU each."""
    ray_or_skip()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * _MIB}
    with pytest.MonkeyPatch.context() as patch:
        # Where no GPU may be seen, Ray refuses to pretend that there are some.
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        try:
            cluster.add_node(**node)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture(params=_ENGINES)
def make_pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Pool]]:
    """What makes a pool of two slots whose workers run this runner, once with each engine."""
    pools: list[Pool] = []

    def make(runner: str) -> Pool:
        if request.param == "local":
            pools.append(Pool(LocalEngine([Slot(None, 1)] * 2, runner, tmp_path)))
        else:
            address = request.getfixturevalue("cluster").address
            settings = replace(WORKERS, address=address, count=2)
            engine = RayEngine(
                settings, runner, tmp_path, devices=1, use_gpus=False, lock_of=writer_lock
            )
            pools.append(Pool(engine))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
