"""Two devices do what one does with twice the batch: proved on two CPU processes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from src.records.run import Predictions
from tests.entries.conftest import Begin, Run

SAME = [
    *("runtime=float32", "runtime.threads=1", "trainer.accelerator=cpu", "trainer.max_epochs=3"),
    *("tracking=none", "trainer.progress=false", "augment=strong", "augment.mix_probability=0"),
    # Adam's division blows rounding up where gradients are nearly 0.
    *("optimizer=sgd", "optimizer.lr=0.01"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [["model=mlp", "model.batch_norm=false", "model.dropout=0"], ["model=lstm", "model.dropout=0"]],
    ids=str,
)
def test_two_devices_are_one_with_twice_the_batch(
    run: Run, tmp_path: Path, network: list[str]
) -> None:
    one, two = (
        train(run, tmp_path / str(devices), *network, *SAME, *words)
        for devices, words in (
            (1, ["trainer.devices=1", "data.batch_size=64"]),
            (2, ["trainer.devices=2", "data.batch_size=32"]),
        )
    )
    assert one["split_fingerprint"] == two["split_fingerprint"]
    for part in ("val", "test"):
        probs = [predictions(summary, part).probs for summary in (one, two)]
        np.testing.assert_allclose(probs[0], probs[1], rtol=0, atol=1e-5)
    curves = [history(summary) for summary in (one, two)]
    assert curves[0].keys() == curves[1].keys() and len(curves[0]) >= 15
    for point, value in curves[0].items():
        assert curves[1][point] == pytest.approx(value, abs=1e-5), point


def train(run: Run, output_dir: Path, *words: str) -> dict[str, Any]:
    done = run("src.train", *words, f"output_dir={output_dir}")
    assert done.returncode == 0, done.stderr
    summary = Path(done.stdout.splitlines()[-1].removeprefix("summary: "))
    found: dict[str, Any] = json.loads(summary.read_text())
    return found


def predictions(summary: dict[str, Any], part: str) -> Predictions:
    return Predictions.read(Path(summary["run_dir"]) / "predictions" / f"{part}.parquet")


def history(summary: dict[str, Any]) -> dict[tuple[str, int], float]:
    """Every value of loss, accuracy and rate, by key and epoch."""
    lines = (Path(summary["run_dir"]) / "tracking" / "spool.jsonl").read_text().splitlines()
    return {
        (key, event["step"]): value
        for event in map(json.loads, lines)
        for key, value in (event["values"].items() if "step" in event else ())
        if event["step"] and not key.endswith("images_per_second") and not key.startswith("cost/")
    }


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_of_further_devices_end_with_the_first(
    begin: Begin, tmp_path: Path, kill: signal.Signals
) -> None:
    words = ["trainer.devices=2", "model=mlp", "trainer.max_epochs=1000", f"output_dir={tmp_path}"]
    first = begin("src.train", *words, *SAME[:3], "tracking=none")
    epochs = tmp_path / "runs"
    deadline = time.monotonic() + 200
    while not list(epochs.glob("*/checkpoints/*")) and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()
        time.sleep(0.2)
    others = psutil.Process(first.pid).children(recursive=True)
    ranks = [one for one in others if "src.train" in one.cmdline()]
    assert ranks, "there is no second device's process"
    first.send_signal(kill)
    _, alive = psutil.wait_procs(others, timeout=60)
    assert not alive
