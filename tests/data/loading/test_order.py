from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.data.loading.loaders import BatchOrder
from src.data.randomness import permutation


def ids_of(order: BatchOrder, epoch: int = 0, first_step: int = 0) -> list[list[int]]:
    return [ids.tolist() for _, ids in order.batches(epoch, first_step)]


def joined(batches: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


sizes = st.integers(1, 60)


@given(n=sizes, batch_size=st.integers(1, 20), epoch=st.integers(0, 3))
def test_training_goes_through_full_batches_once(n: int, batch_size: int, epoch: int) -> None:
    indices = np.arange(n) * 3
    order = BatchOrder(indices, batch_size=batch_size, training=True, seed=4)
    batches = ids_of(order, epoch)
    assert len(batches) == len(order) == max(n // batch_size, 1)
    assert {len(b) for b in batches} == {min(batch_size, n)}
    expected = indices[permutation(n, 4, epoch).numpy()].tolist()
    assert joined(batches) == expected[: len(batches) * batch_size]


@given(n=sizes, batch_size=st.integers(1, 20))
def test_evaluation_sees_everything_in_order_in_even_batches(n: int, batch_size: int) -> None:
    order = BatchOrder(np.arange(n) + 5, batch_size=batch_size, training=False)
    batches = ids_of(order)
    assert joined(batches) == list(range(5, n + 5))
    assert len(batches) == len(order) == -(-n // batch_size)
    lengths = [len(b) for b in batches]
    assert max(lengths) <= batch_size and max(lengths) - min(lengths) <= 1


@given(
    world=st.integers(1, 4),
    batch_size=st.integers(1, 10),
    n=st.integers(4, 100),
    training=st.booleans(),
)
def test_devices_together_see_what_one_sees(
    world: int, batch_size: int, n: int, training: bool
) -> None:
    shards = [
        ids_of(
            BatchOrder(
                np.arange(n),
                batch_size=batch_size,
                training=training,
                seed=2,
                rank=rank,
                world_size=world,
            )
        )
        for rank in range(world)
    ]
    assert len({len(shard) for shard in shards}) == 1
    together = [joined(parts) for parts in zip(*shards, strict=True)]
    lengths = {len(batch) for shard in shards for batch in shard}
    assert min(lengths) >= 1
    one = ids_of(BatchOrder(np.arange(n), batch_size=batch_size * world, training=training, seed=2))
    if training:
        assert len(lengths) == 1
        # A set smaller than the global batch gives each device as many, and may leave some out.
        assert together == (one if n >= batch_size * world else [one[0][: n - n % world]])
    else:
        assert joined(together) == list(range(n))
        assert together == one or batch_size == 1


def test_epochs_and_seeds_differ() -> None:
    def of(seed: int, epoch: int) -> list[list[int]]:
        return ids_of(BatchOrder(np.arange(50), batch_size=5, training=True, seed=seed), epoch)

    assert of(0, 0) == of(0, 0)
    assert of(0, 0) != of(0, 1)
    assert of(0, 0) != of(1, 0)


def test_an_epoch_can_be_taken_up_anywhere() -> None:
    order = BatchOrder(np.arange(50), batch_size=8, training=True, seed=1)
    assert ids_of(order, 3, 4) == ids_of(order, 3)[4:]
    assert [step for step, _ in order.batches(3, 4)] == [4, 5]


def test_indices_may_change_afterwards() -> None:
    indices = np.arange(10)
    order = BatchOrder(indices, batch_size=10, training=False)
    indices[:] = 0
    assert ids_of(order) == [list(range(10))]
    assert next(order.batches(0))[1].dtype == torch.int64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2"),
        ({"world_size": 9}, "8 pictures for 9 devices"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchOrder(np.arange(8), training=True, **{"batch_size": 2, **options})  # type: ignore[arg-type]
