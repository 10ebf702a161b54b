from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from src.data.loading.loaders import Batch, BatchLoader, BatchOrder, StreamLoader
from src.data.randomness import permutation

N = 23
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 3, 6, 5), np.uint8)
TARGETS = np.arange(N) % 4
CHOSEN = np.array([1, 4, 5, 7, 8, 10, 11, 12, 15, 19, 20, 22])


def read(index: int) -> NDArray[np.uint8]:
    return IMAGES[index]


def order(training: bool = True, batch_size: int = 3) -> BatchOrder:
    return BatchOrder(CHOSEN, batch_size=batch_size, training=training, seed=5)


def loader(kind: str, **options: object) -> BatchLoader | StreamLoader:
    if kind == "array":
        return BatchLoader(IMAGES, TARGETS, order(**options))  # type: ignore[arg-type]
    return StreamLoader(read, TARGETS, order(**options), workers=int(kind))  # type: ignore[arg-type]


def ids(batches: list[Batch]) -> list[list[int]]:
    return [batch.sample_ids.tolist() for batch in batches]


@pytest.mark.parametrize("kind", ["array", "0", "2"])
@pytest.mark.parametrize("training", [True, False])
def test_batches_hold_the_pictures_of_their_ids(kind: str, training: bool) -> None:
    batches = loader(kind, training=training)
    batches.set_epoch(2)
    found = list(batches)
    assert len(found) == len(batches) == 4
    assert ids(found) == [i.tolist() for _, i in order(training).batches(2)]
    for step, batch in enumerate(found):
        assert batch.step == step
        assert batch.images.dtype == torch.uint8 and batch.images.is_contiguous()
        assert batch.targets.dtype == batch.sample_ids.dtype == torch.int64
        assert np.array_equal(batch.images.numpy(), IMAGES[batch.sample_ids.numpy()])
        assert np.array_equal(batch.targets.numpy(), TARGETS[batch.sample_ids.numpy()])
        # A shared tensor keeps a file open, and evaluations keep the labels of all batches.
        assert not batch.targets.is_shared() and not batch.sample_ids.is_shared()


@pytest.mark.parametrize("kind", ["array", "2"])
def test_a_pass_can_be_left_saved_and_taken_up(kind: str) -> None:
    first = loader(kind)
    first.set_epoch(3)
    whole = ids(list(first))
    assert first.state_dict() == {"epoch": 3, "step": 0}
    passing = iter(first)
    head = [next(passing), next(passing)]
    state = first.state_dict()
    assert state == {"epoch": 3, "step": 2}

    second = loader(kind)
    second.load_state_dict(state)
    assert len(second) == 4
    assert ids(head) + ids(list(second)) == whole
    # The pass after it is whole again, and so is one after a pass that was left.
    assert ids(list(second)) == whole
    assert ids(list(first)) == whole


def test_another_epoch_forgets_where_the_last_one_stood() -> None:
    batches = loader("array")
    batches.load_state_dict({"epoch": 3, "step": 2})
    batches.set_epoch(4)
    assert [batch.step for batch in batches] == [0, 1, 2, 3]
    batches.set_epoch(4, first_step=3)
    assert [batch.step for batch in batches] == [3]


def test_the_epoch_is_read_with_the_first_batch() -> None:
    batches = loader("array")
    passing = iter(batches)
    batches.sampler.set_epoch(9)
    assert next(passing).sample_ids.tolist() == next(order().batches(9))[1].tolist()


def test_a_memory_map_is_read_without_a_warning(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = next(iter(BatchLoader(images, TARGETS, order(training=False))))
        batch.images.zero_()  # a copy of its own, so this is allowed
    assert np.array_equal(images, IMAGES)


def test_a_tensor_is_gathered_as_an_array_is() -> None:
    of_tensor = BatchLoader(torch.from_numpy(IMAGES), TARGETS, order())
    for one, other in zip(of_tensor, loader("array"), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_a_tensor_is_gathered_where_it_lies() -> None:
    batches = BatchLoader(torch.from_numpy(IMAGES).to("meta"), TARGETS, order())
    batch = next(iter(batches))
    assert {batch.images.device.type, batch.targets.device.type} == {"meta"}
    assert batch.sample_ids.device.type == "meta"


class _Recorder(pl.LightningModule):
    """Notes which pictures it saw, and learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []

    def training_step(self, batch: Batch) -> torch.Tensor:
        assert isinstance(batch, Batch)
        self.seen.append((self.current_epoch, batch.sample_ids.tolist()))
        return self.weight * batch.images.float().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class _SaveEachStep(pl.Callback):
    """Keeps a checkpoint of every step, as one that comes in the middle of an epoch would be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


def _fit(folder: Path, resume: Path | None = None) -> list[tuple[int, list[int]]]:
    module = _Recorder()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[_SaveEachStep(folder)],
    )
    trainer.fit(module, loader("array"), ckpt_path=resume, weights_only=True)
    return module.seen


@pytest.mark.filterwarnings("ignore")
def test_lightning_sets_the_epoch_and_resumes_within_one(tmp_path: Path) -> None:
    straight = _fit(tmp_path)
    expected = [(epoch, i.tolist()) for epoch in range(3) for _, i in order().batches(epoch)]
    assert straight == expected
    for step in (1, 3, 4, 6, 8, 11):
        (tmp_path / str(step)).mkdir()
        resumed = _fit(tmp_path / str(step), resume=tmp_path / f"{step}.ckpt")
        assert resumed == expected[step:], step


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
    options = {"batch_size": batch_size, "training": training, "seed": 2, "world_size": world}
    shards = [ids_of(BatchOrder(np.arange(n), rank=rank, **options)) for rank in range(world)]
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


def test_epochs_and_seeds_differ_and_an_epoch_can_be_taken_up_anywhere() -> None:
    first, other = (
        BatchOrder(np.arange(50), batch_size=8, training=True, seed=seed) for seed in (0, 1)
    )
    assert ids_of(first, 0) == ids_of(first, 0) != ids_of(first, 1)
    assert ids_of(first, 0) != ids_of(other, 0)
    assert ids_of(first, 3, 4) == ids_of(first, 3)[4:]
    assert [step for step, _ in first.batches(3, 4)] == [4, 5]
    # The indices may change afterwards.
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


def test_an_epoch_goes_to_the_device_in_one_copy() -> None:
    # The meta device stands in for a GPU: indices that are there need no copy a step.
    meta = torch.device("meta")
    there = list(order().batches(1, device=meta))
    assert [(step, part.shape) for step, part in there] == [
        (step, part.shape) for step, part in order().batches(1)
    ]
    assert all(part.device == meta for _, part in there)
    assert len({part.storage_offset() for _, part in there}) == len(there), "views of one"
