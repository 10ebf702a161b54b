"""Steps over several batches are steps of as many pictures, also the last one of an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from src.data.loading.loaders import BatchLoader, BatchOrder
from src.training.task import ClassificationTask

PICTURES, EPOCHS, LR = 20, 2, 0.5


def task() -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)),
        {"mean": [0.5], "std": [0.3]},
        loss=nn.CrossEntropyLoss(),
        augment=None,
        make_optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=LR),
        make_schedule=lambda total: lambda step: 1.0,
        seed=0,
        memory_format=torch.contiguous_format,
    )


def loader(batch_size: int) -> BatchLoader:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (PICTURES, 1, 4, 4), np.uint8)
    order = BatchOrder(np.arange(PICTURES), batch_size=batch_size, training=True)
    return BatchLoader(images, np.arange(PICTURES) % 3, order)


@pytest.mark.parametrize(("accumulate", "steps"), [(3, [12, 8]), (5, [20]), (1000, [20])])
def test_they_are_those_of_large_batches(accumulate: int, steps: list[int], tmp_path: Path) -> None:
    trained = task()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(trained, loader(4))
    assert trainer.global_step == EPOCHS * len(steps)

    expected, whole = task(), loader(PICTURES)
    optimizer = torch.optim.SGD(expected.network.parameters(), lr=LR)
    for epoch in range(EPOCHS):
        whole.set_epoch(epoch)
        (batch,) = whole
        images, targets = batch.images.split(steps), batch.targets.split(steps)
        for some, classes in zip(images, targets, strict=True):
            optimizer.zero_grad()
            logits = expected.network(expected.normalized(some))
            nn.functional.cross_entropy(logits, classes).backward()
            optimizer.step()
    torch.testing.assert_close(trained.network.state_dict(), expected.network.state_dict())
