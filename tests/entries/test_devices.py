"""Two devices do what one does with twice the batch: proved on two CPU processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from src.records.run import Predictions
from tests.entries.commands import is_a_speed, points, summary_of, wait_until
from tests.entries.conftest import Begin, Run, Train
from tests.runs.test_monitored_metrics import write_costs
from tests.warm_python import Command

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]
SAME = [
    *("runtime=float32", "runtime.threads=1", "trainer.accelerator=cpu", "trainer.max_epochs=3"),
    "tracking.figures=false",
    *("tracking=none", "trainer.progress=false", "augment=strong", "augment.mix_probability=0"),
    # Adam's division blows rounding up where gradients are nearly 0.
    *("optimizer=sgd", "optimizer.lr=0.01"),
]


@pytest.mark.parametrize(
    "network",
    [["model=mlp", "model.batch_norm=false", "model.dropout=0"], ["model=lstm", "model.dropout=0"]],
    ids=str,
)
def test_two_devices_are_one_with_twice_the_batch(
    train: Train, tmp_path: Path, network: list[str]
) -> None:
    one, two = (
        train(tmp_path / str(devices), *network, *SAME, *overrides)
        for devices, overrides in (
            (1, ["trainer.devices=1", "data.batch_size=64"]),
            (2, ["trainer.devices=2", "data.batch_size=32"]),
        )
    )
    assert summary_of(one)["split_fingerprint"] == summary_of(two)["split_fingerprint"]
    for part in ("val", "test"):
        file = f"predictions/{part}.parquet"
        probs = [Predictions.read(run_dir / file).probs for run_dir in (one, two)]
        np.testing.assert_allclose(probs[0], probs[1], rtol=0, atol=1e-5)
    curves = [history(run_dir) for run_dir in (one, two)]
    assert curves[0].keys() == curves[1].keys() and len(curves[0]) >= 15
    for point, value in curves[0].items():
        assert curves[1][point] == pytest.approx(value, abs=1e-5), point


@pytest.mark.parametrize("key", ["val/auc", "val/balanced_accuracy", "val/cost"])
def test_two_devices_monitor_a_metric_of_all_answers(
    train: Train, tmp_path: Path, key: str
) -> None:
    """As many as do not divide evenly, in the order of the pictures, by which thresholds go."""
    names = tuple(map(str, range(10)))
    costs = write_costs(tmp_path / "costs.csv", names, 1 + np.arange(100).reshape(10, 10) % 7)
    overrides = [*SAME, "model=mlp", "model.batch_norm=false", "model.dropout=0", "data.limit=497"]
    watched = [f"trainer.monitor={key}", f"costs={costs}", "data.answer=balanced_accuracy"]
    one, two = (
        train(tmp_path / str(devices), *overrides, *watched, "trainer.tta=none", *of_each)
        for devices, of_each in (
            (1, ["trainer.devices=1", "data.batch_size=64"]),
            (2, ["trainer.devices=2", "data.batch_size=32"]),
        )
    )
    curves = [history(run_dir) for run_dir in (one, two)]
    assert sum(of_key == key for of_key, _ in curves[1]) == 3
    for epoch in (1, 2, 3):
        assert curves[1][key, epoch] == pytest.approx(curves[0][key, epoch], abs=1e-5)
    assert curves[1][key, 3] == pytest.approx(summary_of(two)["metrics"][key], abs=1e-9)


def history(run_dir: Path) -> dict[tuple[str, int], float]:
    """Every value of loss, accuracy and rate, by key and epoch."""
    found = points(run_dir)
    return {(key, step): value for key, step, value in found if step and not is_a_speed(key)}


def test_two_devices_share_a_run_also_within_a_multirun(run: Run, tmp_path: Path) -> None:
    overrides = [
        "trainer.devices=2",
        "trainer.accelerator=cpu",
        "trainer.max_epochs=1",
        "model=mlp",
    ]
    overrides.append("tracking.figures=false")
    result = run(
        "src.train", "-m", "seed=1,2", *overrides, "tracking=none", f"output_dir={tmp_path}"
    )
    assert result.returncode == 0, result.stderr
    summaries = [json.loads(p.read_text()) for p in tmp_path.glob("runs/*/summary.json")]
    assert sorted(s["seed"] for s in summaries) == [1, 2]
    assert all(s["status"] == "FINISHED" for s in summaries)
    assert result.stdout.count("summary: ") == 2


# The first device's process has 50 minutes behind it when the training begins, the other has none.
CLOCKS_APART = """
import os, sys
from src import train
from src.training.epochs import EpochKeeper

def begin(self, trainer, module, begun=EpochKeeper.on_train_start):
    begun(self, trainer, module)
    if trainer.global_rank == 0:
        self.seconds += 3000

EpochKeeper.on_train_start = begin
sys.exit(train.main())
"""


def test_the_time_is_up_on_all_devices_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "apart.py"
    script.write_text(CLOCKS_APART)
    overrides = ["trainer.devices=2", "model=mlp", "trainer.max_time=40m", f"output_dir={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, str(script), *SAME[:-2], *overrides],
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        start_new_session=True,
    )
    try:
        assert process.wait(timeout=180) == 0
    finally:  # both processes, where one waits for the other
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    (run_dir,) = tmp_path.glob("runs/*")
    assert {epoch for _, epoch in history(run_dir)} == {1}


def _begin_on_two_devices(begin: Begin, output_dir: Path) -> tuple[Command, list[psutil.Process]]:
    """A training that has written its best checkpoint, and the processes that it started."""
    overrides = ("model=mlp", "trainer.max_epochs=1000", f"output_dir={output_dir}")
    first = begin("src.train", "trainer.devices=2", *overrides, *SAME[:3], "tracking=none")
    best = "runs/*/checkpoints/best.ckpt"
    wait_until(lambda: list(output_dir.glob(best)), first, pause=0.2)
    return first, psutil.Process(first.pid).children(recursive=True)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_of_further_devices_end_with_the_first(
    begin: Begin, tmp_path: Path, kill: signal.Signals
) -> None:
    first, others = _begin_on_two_devices(begin, tmp_path)
    ranks = [one for one in others if "src.train" in one.cmdline()]
    assert ranks, "there is no second device's process"
    first.send_signal(kill)
    _, alive = psutil.wait_procs(others, timeout=60)
    assert not alive


def test_a_run_whose_second_process_is_killed_says_so(begin: Begin, tmp_path: Path) -> None:
    first, others = _begin_on_two_devices(begin, tmp_path)
    (second,) = (one for one in others if "src.train" in one.cmdline())
    second.kill()
    _, error = first.communicate()
    (run_dir,) = tmp_path.glob("runs/*")
    said = f"the process of device 2 was killed (signal 9): resume={run_dir} goes on"
    assert first.returncode == 1 and "Traceback" not in error
    assert error.splitlines()[-1].startswith(f"error: {said}")
    summary = summary_of(run_dir)
    assert summary["status"] == "FAILED" and summary["reason"].startswith(said)
