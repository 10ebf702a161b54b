"""Where the pictures live while a network trains."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from src.config.compose import read_run_settings
from src.data.loading import datamodule
from src.data.loading.datamodule import PictureData
from src.runs import build

GPU = torch.device("cuda")


@pytest.fixture
def data(tmp_path: Path) -> PictureData:
    return build.build_data(read_run_settings([f"data.cache_dir={tmp_path}"]))


def first_images(data: PictureData) -> torch.Tensor:
    return next(iter(data.batches("train", training=True))).images


@pytest.mark.parametrize(("room", "there"), [(5.0, True), (3.0, False)])
def test_a_gpu_keeps_the_pictures_where_they_fit_into_a_quarter_of_its_memory(
    data: PictureData, monkeypatch: pytest.MonkeyPatch, room: float, there: bool
) -> None:
    assert data.pictures.images is not None
    free = int(room * data.pictures.images.nbytes)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    # No GPU is needed to see where the pictures go: the meta device stands in for one.
    real = torch.tensor
    monkeypatch.setattr(
        datamodule.torch, "tensor", lambda values, device: real(values, device="meta")
    )
    assert data.live_on(GPU) is there
    assert first_images(data).device.type == ("meta" if there else "cpu")


def test_the_cpu_and_streams_stay_as_they_are(data: PictureData, tmp_path: Path) -> None:
    before = first_images(data)
    assert data.live_on(torch.device("cpu")) is False
    assert torch.equal(first_images(data), before)
    words = [f"data.cache_dir={tmp_path / 'other'}", "data.cache_limit_gb=0", "data.image_size=10"]
    streamed = build.build_data(read_run_settings(words))
    assert streamed.pictures.images is None and streamed.live_on(GPU) is False
    assert first_images(streamed).dtype == torch.uint8


def test_workers_end_with_the_training(tmp_path: Path) -> None:
    words = [f"data.cache_dir={tmp_path}", "data.cache_limit_gb=0", "data.image_size=10"]
    streamed = build.build_data(read_run_settings([*words, "data.num_workers=1"]))
    before = set(multiprocessing.active_children())
    loaders = [streamed.train_dataloader(), streamed.val_dataloader()]
    seen = [next(iter(loader)).images.shape[2:] for loader in loaders]
    assert seen == [(10, 10)] * 2
    assert len(set(multiprocessing.active_children()) - before) == 2
    streamed.teardown("fit")
    assert set(multiprocessing.active_children()) == before
    assert len(list(loaders[1])) == len(loaders[1])  # type: ignore[arg-type]


def test_statistics_are_those_of_the_training_part_alone(data: PictureData) -> None:
    images = data.pictures.images
    assert images is not None
    train = images[data.split.train].astype(np.float64) / 255
    mean, std = data.channel_statistics
    np.testing.assert_allclose(mean, train.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, train.std(axis=(0, 2, 3)), rtol=1e-6)
