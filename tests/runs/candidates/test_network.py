"""Networks trained as a run, as far as it is more than the training itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from src.config.compose import read_run_settings
from src.data.loading.picture_data import PictureData
from src.machine.failures import RunFailed
from src.models.whitened import WhitenedCNN
from src.runs import build
from src.runs.experiment import run_experiment
from src.runs.settings import read_resumed_settings
from src.training.checkpoints import read_checkpoint
from src.training.lightning_parts import AtomicCheckpointIO


def test_the_speedrun_begins_with_the_pictures_and_writes_one_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, str]] = []
    save = AtomicCheckpointIO.save_checkpoint

    def noted(self: Any, checkpoint: dict[str, Any], path: Any, **options: Any) -> None:
        written.append((checkpoint["global_step"], Path(path).name))
        save(self, checkpoint, path, **options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", noted)
    overrides = [
        "recipe=speedrun",
        "model.widths=[8,16]",
        *("data.batch_size=128", "optimizer.vectors_lr_scale=1", "optimizer.head_lr_scale=1"),
    ]
    overrides += [
        "runtime=float32",
        "runtime.threads=1",
        "trainer.accelerator=cpu",
        "tracking=none",
    ]
    overrides += ["tracking.figures=false", "tracking.log_model=false", "evaluate_test=false"]
    overrides += ["trainer.tta=none"]  # a digit of 8 pixels is another one when it is moved
    settings = read_run_settings([*overrides, f"output_dir={tmp_path}"])
    data = build.build_data(settings)
    summary = run_experiment(settings, data=data)
    assert summary is not None and summary.metrics["val/accuracy"] > 0.8
    # The first one makes the run resumable; nothing is validated or written before the end.
    steps = 8 * (len(data.split.train) // 128)
    assert written == [(0, "last.ckpt"), (steps, "best.ckpt"), (steps, "last.ckpt")]
    trained = read_checkpoint(Path(summary.run_dir) / "checkpoints" / "last.ckpt")
    kernels = trained["state_dict"]["network.whiten.kernels"]
    torch.testing.assert_close(kernels, _kernels(data), rtol=1e-4, atol=1e-4)


def test_stored_stages_of_a_resumed_run_are_those_that_it_began_with(tmp_path: Path) -> None:
    overrides = ["data=digits", "data.limit=200", "data.batch_size=32", "model=whitened"]
    overrides += ["model.widths=[8,8]", "model.frozen_stages=1", "model.stored_views=1"]
    overrides += ["trainer.max_epochs=2", "runtime=float32", "runtime.threads=1", "tracking=none"]
    overrides += ["tracking.figures=false", "tracking.log_model=false", "evaluate_test=false"]
    overrides += ["trainer.progress=false", f"output_dir={tmp_path}"]

    class Stopped(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    whole = run_experiment(read_run_settings(overrides))
    with pytest.raises(Stopped):
        run_experiment(read_run_settings([*overrides, f"output_dir={tmp_path / 'stopped'}"]), stop)
    folder = next(p for p in (tmp_path / "stopped" / "runs").iterdir() if p.is_dir())
    resumed = run_experiment(read_resumed_settings([f"resume={folder}"]))
    assert whole is not None and resumed is not None
    states = [
        read_checkpoint(Path(summary.run_dir) / "checkpoints" / "last.ckpt")["state_dict"]
        for summary in (whole, resumed)
    ]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)


def test_a_network_that_cannot_be_compiled_is_refused_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_compiler(*_: object) -> None:
        raise RuntimeError("no C++ compiler is found\nand twenty lines of advice")

    def compile_with_it(network: Any) -> None:
        network._compiled_call_impl = torch.compile(network._call_impl, backend=without_compiler)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_with_it)
    words = ["data=digits", "data.limit=200", "data.batch_size=32", "model=mlp", "tracking=none"]
    words += ["runtime=float32", "runtime.compile=true", "trainer.max_epochs=1"]
    words += ["trainer.progress=false", f"output_dir={tmp_path}"]
    said = (
        r"^runtime\.compile is true, and torch cannot compile mlp here \(.*no C\+\+ compiler.*\): "
    )
    with pytest.raises(RunFailed, match=said) as failed:
        run_experiment(read_run_settings(words))
    assert "\n" not in str(failed.value)


def _kernels(data: PictureData) -> torch.Tensor:
    """The first layer that the first batch sets."""
    batch = next(iter(data.batches("train", training=True)))
    mean, std = (torch.tensor(values)[:, None, None] for values in data.channel_statistics)
    network = WhitenedCNN(1, 10, (8, 8), widths=[8])
    network.start_from((batch.images / 255 - mean) / std)
    return network.whiten.kernels
