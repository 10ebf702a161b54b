"""A training step on a GPU, with tensors that have a device and no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from src.config.compose import read_run_settings
from src.data.loading.loaders import BatchLoader, BatchOrder
from src.runs import build
from tests.fake_tensors import forget_constants

GPU = torch.device("cuda")


def to_gpu(network: nn.Module) -> None:
    """Replace parameters and buffers by tensors of the same shapes that are said to lie there."""
    for module in network.modules():
        for name, one in module.named_parameters(recurse=False):
            there = torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device=GPU)
            module.register_parameter(name, nn.Parameter(there, one.requires_grad))
        for name, one in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(one.shape, dtype=one.dtype, device=GPU))


@pytest.mark.parametrize(
    "words", [["model=cnn", "augment=strong"], ["recipe=speedrun"], ["model=vit", "augment=photo"]]
)
def test_a_step_neither_mixes_devices_nor_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """Without the backward pass, which needs a real device: what asks for a value raises."""
    words += ["data=digits", "data.image_size=32", "data.channels=3", "runtime=float32"]
    settings = read_run_settings([*words, f"data.cache_dir={tmp_path}"])
    task = build.build_task(settings, build.build_data(settings))
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.Generator(),))
    forget_constants()
    with FakeTensorMode():
        to_gpu(task)
        images = torch.empty(64, 3, 32, 32, dtype=torch.uint8, device=GPU)
        loader = BatchLoader(
            images, np.arange(64) % 10, BatchOrder(np.arange(64), batch_size=16, training=True)
        )
        optimizer = task.make_optimizer(task.network)
        task.network.train()
        for batch in loader:
            loss = task.training_step(batch, batch.step)
            for parameter in task.network.parameters():
                parameter.grad = torch.empty_like(parameter)
            nn.utils.clip_grad_norm_(task.network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            assert task.average is not None
            task.average.update(task.network)
            assert loss.device.type == "cuda"
        assert task.totals["train"].samples == 64
    forget_constants()
