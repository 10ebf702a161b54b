"""Real trainings that are killed with SIGKILL, or asked to stop, and go on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import torch

from tests.entries.commands import is_a_speed, kill, rows, summary_of, wait_until
from tests.entries.conftest import Begin, Outputs, Run, Train
from tests.warm_python import Command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Dropout, augmentation and averaged weights: everything that has a state or draws. A plan that is
# timed beside other work is timed once more on an idle machine, and another one rounds otherwise.
OVERRIDES = [
    "runtime=float32",
    *("model=cnn", "model.widths=[16,16,16]", "model.dropout=0.2", "trainer.ema_decay=0.9"),
    *("trainer.max_epochs=4", "data.batch_size=16", "tracking.figures=false"),
]
Moment = Callable[[Path], bool]


@pytest.fixture(scope="module")
def whole(train: Train, outputs: Outputs) -> Path:
    """The folder of a run that nobody disturbed."""
    return train(outputs("whole"), *OVERRIDES)


def wait_for(moment: Moment, output_dir: Path, process: Command) -> Path:
    """The run's folder, as soon as `moment(folder)` is true."""
    runs = output_dir / "runs"
    return wait_until(lambda: next(filter(moment, runs.glob("*")), None), process, pause=0.0005)


def has_begun(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()


def epochs(folder: Path) -> int:
    """Whole epochs in the run's diary."""
    try:
        return (folder / "tracking" / "spool.jsonl").read_text().count('"train/loss"')
    except OSError:
        return 0


def is_in_the_middle(folder: Path) -> bool:
    """Whether the third epoch trains: what the second one leaves is written."""
    spool, checkpoint = folder / "tracking" / "spool.jsonl", folder / "checkpoints" / "last.ckpt"
    if epochs(folder) < 2 or not checkpoint.is_file():
        return False
    if checkpoint.stat().st_mtime_ns < spool.stat().st_mtime_ns:
        return False
    time.sleep(0.05)  # some steps
    return True


def writes_a_checkpoint(folder: Path) -> bool:
    return epochs(folder) > 0 and any((folder / "checkpoints").glob(".*.tmp*"))


def is_being_measured(folder: Path) -> bool:
    return (folder / "predictions" / "val.parquet").is_file()


def is_drawn(folder: Path) -> bool:
    return (folder / "figures").is_dir()


def mlflow_history(folder: Path) -> list[tuple[str, int, float]]:
    """Every point that MLflow has of the only run in its database, sorted."""
    output_dir = folder.parents[1]
    points = rows(output_dir, "select key, step, value from metrics order by key, step")
    costs = [key for key, *_ in points if key.startswith("cost/")]
    assert len(costs) == len(set(costs)) > 5
    # One of a bundle that was written anew while it was packed is marked as deleted.
    models = "select count(*) from logged_models where lifecycle_stage = 'active'"
    assert rows(output_dir, models) == [1]
    assert rows(output_dir, "select status from runs") == ["FINISHED"]
    return [point for point in points if not is_a_speed(point[0])]


def assert_same_run(folder: Path, whole: Path) -> None:
    """All that was measured is the same, but for speeds."""
    ours, theirs = map(summary_of, (folder, whole))
    assert ours["status"] == theirs["status"] == "FINISHED"
    for summary in (ours, theirs):
        summary["metrics"] = {k: v for k, v in summary["metrics"].items() if not is_a_speed(k)}
    assert ours["metrics"] == theirs["metrics"]
    for part in ("val", "test"):
        assert predictions(folder, part) == predictions(whole, part)
    points = mlflow_history(folder)
    assert points == mlflow_history(whole)
    assert [s for key, s, _ in points if key == "train/loss"] == [1, 2, 3, 4]
    assert not list((folder / "checkpoints").glob(".*")), "a torn checkpoint was left"


def predictions(folder: Path, part: str) -> dict[str, Any]:
    return pq.ParquetFile(folder / "predictions" / f"{part}.parquet").read().to_pydict()


@pytest.mark.parametrize(
    "moments",
    [
        [has_begun],
        [is_in_the_middle],
        [writes_a_checkpoint],
        [is_being_measured],
        [has_begun, writes_a_checkpoint, is_drawn],
    ],
    ids=lambda moments: "+".join(moment.__name__ for moment in moments),
)
def test_killed_anywhere_it_ends_like_an_undisturbed_run(
    moments: list[Moment], begin: Begin, run: Run, whole: Path, outputs: Outputs, tmp_path: Path
) -> None:
    # The earliest is killed while the database is being made.
    output_dir = tmp_path if moments == [has_begun] else outputs("killed")
    overrides = [*OVERRIDES, f"output_dir={output_dir}", f"tracking.figures={is_drawn in moments}"]
    for moment in moments:
        process = begin("src.train", *overrides)
        folder = wait_for(moment, output_dir, process)
        kill(process)
        overrides = [f"resume={folder}"]
    result = run("src.train", *overrides)
    assert result.returncode == 0, result.stderr
    warned = [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert all("has not confirmed it yet" in line for line in warned), result.stderr
    assert_same_run(folder, whole)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_to_stop_gets_a_run_that_goes_on(
    signum: signal.Signals, begin: Begin, run: Run, whole: Path, outputs: Outputs
) -> None:
    output_dir = outputs("stopped")
    process = begin("src.train", *OVERRIDES, f"output_dir={output_dir}")
    folder = wait_for(is_in_the_middle, output_dir, process)
    os.killpg(process.pid, signum)
    _, error = process.communicate()
    assert process.returncode == 128 + signum
    assert "Traceback" not in error
    assert f"resume with: python -m src.train resume={folder}" in error
    assert error.splitlines()[-1] == f"stopped by {signum.name}"
    assert summary_of(folder)["status"] == "KILLED"
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["position"]["step"] > 0, "it was not saved within the epoch"
    result = run("src.train", f"resume={folder}")
    assert result.returncode == 0, result.stderr
    assert_same_run(folder, whole)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_each_process_one_by_one_is_left_to_the_command(
    signum: signal.Signals, begin: Begin, outputs: Outputs
) -> None:
    """As systemd ends all that a service has started."""
    output_dir = outputs("signalled")
    streamed = ["data.image_size=10", "data.cache_limit_gb=0", "data.num_workers=2"]
    process = begin("src.train", *OVERRIDES, *streamed, f"output_dir={output_dir}")
    folder = wait_for(is_in_the_middle, output_dir, process)
    readers = psutil.Process(process.pid).children(recursive=True)
    assert len(readers) >= 4, "two for each of two parts"
    for one in readers:
        one.send_signal(signum)
    time.sleep(0.5)
    process.send_signal(signum)
    _, error = process.communicate()
    assert process.returncode == 128 + signum, error
    assert "Traceback" not in error and f"resume={folder}" in error
    assert summary_of(folder)["status"] == "KILLED"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_does_not_end_those_who_read_pictures(
    signum: signal.Signals, begin: Begin, outputs: Outputs
) -> None:
    output_dir = outputs("streamed")
    streamed = ["data.image_size=10", "data.cache_limit_gb=0", "data.num_workers=2"]
    process = begin("src.train", *OVERRIDES, *streamed, f"output_dir={output_dir}")
    folder = wait_for(is_in_the_middle, output_dir, process)
    os.killpg(process.pid, signum)
    _, error = process.communicate()
    assert process.returncode == 128 + signum, error
    assert error.count("saving, then stopping") == 1 and "Traceback" not in error
    assert summary_of(folder)["status"] == "KILLED"
