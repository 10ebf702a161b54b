from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.search.workers.slots import ReservedSlots, cluster_slots, slots, visible_gpus
from tests.search.workers.pools import WORKERS


@given(
    count=st.none() | st.integers(1, 40),
    per_gpu=st.integers(1, 4),
    devices=st.integers(1, 8),
    threads=st.none() | st.integers(1, 8),
    gpus=st.lists(st.integers(0, 99).map(str), max_size=16, unique=True),
    cores=st.integers(1, 128),
)
def test_a_machine_is_shared_fairly(
    count: int | None,
    per_gpu: int,
    devices: int,
    threads: int | None,
    gpus: list[str],
    cores: int,
) -> None:
    workers = replace(WORKERS, count=count, per_gpu=per_gpu, threads=threads)
    if gpus and len(gpus) < devices:
        with pytest.raises(ValueError, match=f"trainer.devices is {devices}, but only"):
            slots(workers, devices, gpus=gpus, cores=cores)
        return
    shared = slots(workers, devices, gpus=gpus, cores=cores)
    assert len(shared) >= 1 and (count is None or len(shared) == count)
    assert all(slot.threads == (threads or slot.threads) >= 1 for slot in shared)
    if threads is None and len(shared) * devices <= cores:
        assert sum(slot.threads for slot in shared) * devices <= cores
    if not gpus:
        assert all(slot.devices is None for slot in shared)
        return
    users = {gpu: sum(gpu in (s.devices or "").split(",") for s in shared) for gpu in gpus}
    assert all(len((slot.devices or "").split(",")) == devices for slot in shared)
    used = [number for number in users.values() if number]
    assert max(used) - min(used) <= 1, "one GPU works for two"
    assert all(
        sum(s.gpu_share for s in shared if gpu in (s.devices or "").split(",")) == pytest.approx(1)
        for gpu, number in users.items()
        if number
    ), "the memory of a GPU is divided between its slots"
    if count is None:
        assert used == [per_gpu] * (len(gpus) // devices * devices)


def _cluster_slots(
    nodes: Sequence[tuple[float, float]], devices: int = 1, use_gpus: bool = True, **given: Any
) -> ReservedSlots:
    return cluster_slots(replace(WORKERS, **given), devices, nodes=nodes, use_gpus=use_gpus)


@pytest.mark.parametrize(
    ("nodes", "given", "expected"),
    [
        ([(4, 0), (2, 0)], {}, ReservedSlots(6, 1, 1, 0.0)),
        ([(4, 0), (3, 0)], {"threads": 2}, ReservedSlots(3, 2, 2, 0.0)),  # not split over nodes
        ([(8, 0), (8, 0)], {"count": 4}, ReservedSlots(4, 4, 4, 0.0)),
        ([(8, 2), (16, 0), (12, 2)], {}, ReservedSlots(4, 4, 4, 1.0)),
        ([(8, 2)], {"per_gpu": 4}, ReservedSlots(8, 1, 1, 0.25)),
        ([(4, 4)], {"use_gpus": False}, ReservedSlots(4, 1, 1, 0.0)),
        ([(8, 3), (8, 2)], {"devices": 2}, ReservedSlots(2, 4, 8, 2.0)),  # all of one node
        ([(2, 4)], {}, ReservedSlots(4, 1, 0.5, 1.0)),  # fewer cores than slots
    ],
)
def test_a_cluster_is_divided(
    nodes: list[tuple[float, float]], given: dict[str, Any], expected: ReservedSlots
) -> None:
    assert _cluster_slots(nodes, **given) == expected


@pytest.mark.parametrize(
    ("nodes", "given", "message"),
    [
        ([(4, 1), (4, 1)], {"devices": 2}, "trainer.devices is 2"),
        ([(4, 2)], {"devices": 2, "per_gpu": 2}, "workers.per_gpu=1"),
        ([(4, 0), (2, 0)], {"threads": 8}, "needs 8 CPUs"),
        ([], {}, "needs 1 CPUs"),
    ],
)
def test_what_does_not_fit_is_refused(
    nodes: list[tuple[float, float]], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _cluster_slots(nodes, **given)


@given(
    nodes=st.lists(st.tuples(st.integers(1, 64), st.integers(0, 8)), min_size=1, max_size=6),
    per_gpu=st.integers(1, 4),
    use_gpus=st.booleans(),
)
def test_all_slots_find_room_at_the_same_time(
    nodes: list[tuple[int, int]], per_gpu: int, use_gpus: bool
) -> None:
    found = _cluster_slots([*nodes], per_gpu=per_gpu, use_gpus=use_gpus)
    tiny = 1e-9
    room = 0
    for cpus, gpus in nodes:
        by_gpu = int(gpus / found.gpus + tiny) if found.gpus else 10**9
        room += min(by_gpu, int(cpus / found.cpus + tiny))
    assert room >= found.count


@pytest.mark.parametrize(
    ("named", "gpus"),
    [
        ("0,1", ["0", "1"]),
        (" 2 , 0", ["2", "0"]),
        ("-1", []),
        ("0,-1,1", ["0"]),
        ("", []),
        ("NoDevFiles", []),
        ("0,,1", ["0"]),
        ("1,x,0", ["1"]),
        ("GPU-8932f937,MIG-3e1b,1", ["GPU-8932f937", "MIG-3e1b", "1"]),
    ],
)
def test_gpus_are_named_up_to_the_first_that_none_can_be(
    monkeypatch: pytest.MonkeyPatch, named: str, gpus: list[str]
) -> None:
    """As the CUDA programming guide says of CUDA_VISIBLE_DEVICES."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == gpus
