"""Where the pictures live while a network trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.data.loading import picture_data
from src.data.loading.picture_data import PictureData
from src.data.sources.source import Source
from src.runs import build
from src.runs.candidates.candidate import measure_part
from src.statistics.intervals import share_interval
from src.sweeps.run_job import TrialRunner

GPU = torch.device("cuda")


@pytest.fixture
def data(tmp_path: Path) -> PictureData:
    return build.build_data(read_run_settings([f"data.cache_dir={tmp_path}"]))


def first_images(data: PictureData) -> torch.Tensor:
    return next(iter(data.batches("train", training=True))).images


@pytest.mark.parametrize(
    ("room", "share", "there"), [(5.0, 1.0, True), (3.0, 1.0, False), (5.0, 0.3, False)]
)
def test_a_gpu_keeps_the_pictures_where_they_fit_into_a_quarter_of_its_memory(
    data: PictureData, monkeypatch: pytest.MonkeyPatch, room: float, share: float, there: bool
) -> None:
    assert data.pictures.images is not None
    free = int(room * data.pictures.images.nbytes)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, int(1.1 * free)))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: share)
    # No GPU is needed to see where the pictures go: the meta device stands in for one.
    real = torch.tensor
    monkeypatch.setattr(
        picture_data.torch, "tensor", lambda values, device: real(values, device="meta")
    )
    assert data.live_on(GPU) is there
    assert first_images(data).device.type == ("meta" if there else "cpu")


def test_copies_on_a_gpu_go_with_the_training_that_they_were_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 34, 1 << 34))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)
    real = torch.tensor
    monkeypatch.setattr(
        picture_data.torch, "tensor", lambda values, device: real(values, device="meta")
    )
    runner = TrialRunner()
    small, large = (
        read_run_settings([f"data.cache_dir={tmp_path}", f"data.image_size={side}"])
        for side in (8, 10)
    )
    first = runner._pictures(small)
    assert first.live_on(GPU)
    assert runner._pictures(small) is first and first_images(first).device.type == "meta"
    assert first.live_on(torch.device("cpu")) is False
    assert first_images(first).device.type == "cpu"
    assert first.live_on(GPU)
    runner._pictures(large)
    assert first_images(first).device.type == "cpu" and not first._on_device


def test_the_cpu_and_streams_stay_as_they_are(data: PictureData, tmp_path: Path) -> None:
    before = first_images(data)
    assert data.live_on(torch.device("cpu")) is False
    assert torch.equal(first_images(data), before)
    words = [f"data.cache_dir={tmp_path / 'other'}", "data.cache_limit_gb=0", "data.image_size=10"]
    streamed = build.build_data(read_run_settings(words))
    assert streamed.pictures.images is None and streamed.live_on(GPU) is False
    assert first_images(streamed).dtype == torch.uint8


def test_statistics_are_those_of_the_training_part_alone(data: PictureData) -> None:
    images = data.pictures.images
    assert images is not None
    train = images[data.split.train].astype(np.float64) / 255
    mean, std = data.channel_statistics
    np.testing.assert_allclose(mean, train.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(std, train.std(axis=(0, 2, 3)), rtol=1e-6)


def test_the_classes_are_counted_once(data: PictureData, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = np.bincount(data.pictures.targets[data.split.train], minlength=10)
    assert data.class_counts.tolist() == expected.tolist()
    monkeypatch.setattr(picture_data, "label_counts", lambda *_: pytest.fail("counted again"))
    assert data.class_counts.tolist() == expected.tolist()


def test_what_stays_in_one_part_is_a_group_beside_the_predictions(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = []
    for number in range(24):
        pixels = generator.integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number // 3 % 2]},patient {number // 3}\n")
    table = tmp_path / "pictures.csv"

    def opened(text: str, name: str) -> PictureData:
        table.write_text(text)
        words = [f"data.cache_dir={tmp_path / name}", "data=folder", f"data.root={table}"]
        return build.build_data(read_run_settings(words))

    grouped = opened("path,label,group\n" + "".join(lines), "grouped")
    paths = grouped.pictures.sample_paths
    assert grouped.groups is not None and paths is not None
    patients = [int(Path(path).stem) // 3 for path in paths]
    together = grouped.groups[:, None] == grouped.groups
    assert np.array_equal(together, np.equal.outer(patients, patients))
    ids = grouped.split.val
    probs = np.full((len(ids), 2), 0.5, np.float32)
    measured = measure_part(grouped, "val", (probs, grouped.pictures.targets[ids], ids))
    groups = measured.predictions.groups
    assert groups is not None and np.array_equal(groups, grouped.groups[ids])
    assert not measured.predictions.copies
    # Three pictures of a patient are right or wrong together: as many as a third of the pictures.
    right = grouped.pictures.targets[ids] == 0
    ends = [measured.metrics[f"val/accuracy{end}"] for end in ("_low", "_high")]
    interval, each = share_interval(right, groups), share_interval(right)
    assert interval is not None and each is not None
    assert ends == [interval.low, interval.high]
    assert interval.low < each.low and each.high < interval.high
    alone = opened(
        "path,label\n" + "".join(line.rpartition(",")[0] + "\n" for line in lines), "alone"
    )
    assert alone.groups is None


def test_what_is_nearly_equal_in_arrays_stays_in_one_part_unless_they_are_published(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 255, (60, 6, 6), np.uint8)
    smooth = [np.asarray(Image.fromarray(one).resize((32, 32), 3)).astype(int) for one in coarse]
    shots = np.repeat(smooth, 2, axis=0)
    shots += generator.integers(-2, 3, shots.shape)
    source = Source(
        "shots",
        ("a", "b"),
        np.arange(120) // 2 % 2,
        arrays=shots.clip(0, 255).astype(np.uint8)[:, None],
    )

    def torn(source: Source) -> int:
        settings = read_run_settings([f"data.cache_dir={tmp_path}"]).data
        data = PictureData.open(source, settings, native_side=None, batch_size=8, seed=0)
        kept = [remark for remark in data.remarks if "were kept in one part" in remark]
        parts = data.split.parts.reshape(-1, 2)
        found = int((parts[:, 0] != parts[:, 1]).sum())
        assert bool(kept) == (found == 0)
        ids = data.split.val
        probs = np.full((len(ids), 2), 0.5, np.float32)
        measured = measure_part(data, "val", (probs, data.pictures.targets[ids], ids))
        assert measured.predictions.copies == (found == 0)  # nobody named these groups
        return found

    assert torn(source) == 0
    assert torn(replace(source, published=True)) > 5


def test_a_training_part_of_one_picture_is_refused(tmp_path: Path) -> None:
    words = [f"data.cache_dir={tmp_path}", "data.limit=1"]
    with pytest.raises(ConfigError, match="the training part has a single picture"):
        build.build_data(read_run_settings(words))
    assert len(build.build_data(read_run_settings([*words[:1], "data.limit=2"])).split.train) == 2
