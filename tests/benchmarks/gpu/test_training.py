"""The checks of a GPU, as far as a CPU can run them."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import training

CPU = torch.device("cpu")
SMALL = ("model=mlp", "model.hidden=[8]", "data.batch_size=16", "optimizer=sgd")
COUNTS = {"train": 64, "val": 16}


def test_what_overlaps_counts_once_and_kernels_are_told_apart() -> None:
    add = "void at::native::vectorized_elementwise_kernel<8, at::native::CUDAFunctor_add<float>, 1>"
    adam = (
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous"
    )
    adam += " namespace)::TensorListMetadata<4>, at::native::FusedAdamMathFunctor<float>>"
    conv = "sm90_xmma_wgrad_indexed_bf16_tilesize128x128x64_warpgroupsize1x1x1"
    other = "sm90_xmma_wgrad_indexed_bf16_tilesize64x64x64_warpgroupsize1x1x1"
    events = [
        {"ph": "X", "cat": "kernel", "ts": 100, "dur": 10, "name": conv},
        {"ph": "X", "cat": "kernel", "ts": 105, "dur": 10, "name": other},  # to 115
        {"ph": "X", "cat": "gpu_memcpy", "ts": 107, "dur": 2, "name": "Memcpy DtoD"},  # within it
        {"ph": "X", "cat": "kernel", "ts": 125, "dur": 5, "name": add},
        {"ph": "X", "cat": "kernel", "ts": 130, "dur": 3, "name": adam},
        {"ph": "X", "cat": "cpu_op", "ts": 0, "dur": 1000, "name": "aten::add"},
        {"ph": "M", "name": "process_name"},
    ]
    work = training.device_work({"traceEvents": events})
    assert work.count == 5 and work.seconds == pytest.approx(23e-6)
    assert [name for name, _ in work.longest] == [
        "sm90_xmma_wgrad_indexed_bf16",
        "vectorized_elementwise_kernel CUDAFunctor_add",
        "multi_tensor_apply_kernel FusedAdamMathFunctor",
        "Memcpy DtoD",
    ]
    assert work.longest[0][1] == pytest.approx(20 / 30)
    with pytest.raises(ValueError, match="no event of gpu_memset"):
        training.device_work({"traceEvents": events}, frozenset({"gpu_memset"}))


def test_a_warning_that_something_waited_is_told_from_that_of_the_mode_itself() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(
            "Synchronization debug mode is a prototype feature and does not yet detect all "
            "synchronizing operations",
            stacklevel=1,
        )
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
    (place,) = training.waiting_places(caught)
    assert place.startswith("test_training.py:")
    assert training.waits_are_seen(CPU) is None, "only CUDA knows of waits"


def test_an_epoch_of_a_real_training_is_timed_and_another_traced(tmp_path: Path) -> None:
    waits, busy = training.steady_epoch(
        CPU, tmp_path, overrides=SMALL, counts=COUNTS, kinds=frozenset({"cpu_op"})
    )
    assert waits.measured == "0" and waits.met is None
    found = re.fullmatch(
        r"([\d.]+) %; a step: (\d+) kernels, .* ms of .* ms; most: .*", busy.measured
    )
    assert found is not None, busy.measured
    assert float(found[1]) > 0 and int(found[2]) > 10, busy.measured


@pytest.mark.slow
def test_plans_and_steps(tmp_path: Path) -> None:
    (row,) = training.steps(CPU, tmp_path, overrides=SMALL, counts=COUNTS, rounds=1, epochs=2)
    assert float(row.measured.partition("x")[0]) > 0
    overrides = ("model=cnn", "model.widths=[4]", "data.batch_size=16")
    chosen, compiled = training.plans(
        CPU, tmp_path, overrides=overrides, counts=COUNTS, epochs=5000
    )
    assert "images/s" in chosen.measured and compiled.met is None
