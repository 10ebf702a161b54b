from __future__ import annotations

import multiprocessing
from pathlib import Path

from src.config.compose import read_run_settings
from src.runs import build
from src.training.lightning_parts import FitBatches


def test_workers_end_with_the_training(tmp_path: Path) -> None:
    words = [f"data.cache_dir={tmp_path}", "data.cache_limit_gb=0", "data.image_size=10"]
    streamed = build.build_data(read_run_settings([*words, "data.num_workers=1"]))
    before = set(multiprocessing.active_children())
    batches = FitBatches(streamed)
    loaders = [batches.train_dataloader(), batches.val_dataloader()]
    seen = [next(iter(loader)).images.shape[2:] for loader in loaders]
    assert seen == [(10, 10)] * 2
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.teardown("fit")
    assert set(multiprocessing.active_children()) == before
    assert len(list(loaders[1])) == len(loaders[1])  # type: ignore[arg-type]
