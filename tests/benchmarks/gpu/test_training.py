"""The checks of a GPU, as far as a CPU can run them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import training

CPU = torch.device("cpu")
SMALL = ("model=mlp", "model.hidden=[8]", "data.batch_size=16", "optimizer=sgd")
COUNTS = {"train": 64, "val": 16}


def test_the_busy_share_counts_what_overlaps_once() -> None:
    events = [
        {"ph": "X", "cat": "kernel", "ts": 100, "dur": 10},
        {"ph": "X", "cat": "kernel", "ts": 105, "dur": 10},  # to 115
        {"ph": "X", "cat": "gpu_memcpy", "ts": 107, "dur": 2},  # within it
        {"ph": "X", "cat": "kernel", "ts": 125, "dur": 5},
        {"ph": "X", "cat": "cpu_op", "ts": 0, "dur": 1000},
        {"ph": "M", "name": "process_name"},
    ]
    kinds = frozenset({"kernel", "gpu_memcpy"})
    assert training.busy_share({"traceEvents": events}, kinds) == pytest.approx(20 / 30)
    with pytest.raises(ValueError, match="no event of gpu_memset"):
        training.busy_share({"traceEvents": events}, frozenset({"gpu_memset"}))


def test_an_epoch_of_a_real_training_is_traced(tmp_path: Path) -> None:
    waits, busy = training.steady_epoch(
        CPU, tmp_path, words=SMALL, counts=COUNTS, kinds=frozenset({"cpu_op"})
    )
    assert waits.measured == "0" and waits.met is None, "only CUDA knows of waits"
    assert 0 < float(busy.measured.removesuffix(" %")) <= 100


@pytest.mark.slow
def test_plans_and_steps(tmp_path: Path) -> None:
    (row,) = training.steps(CPU, tmp_path, words=SMALL, counts=COUNTS, rounds=1, epochs=2)
    assert float(row.measured.partition("x")[0]) > 0
    words = ("model=cnn", "model.widths=[4]", "data.batch_size=16")
    chosen, compiled = training.plans(CPU, tmp_path, words=words, counts=COUNTS, epochs=5000)
    assert "images/s" in chosen.measured and compiled.met is None
