"""Cross-validations as a person starts them: killed and gone on with, tracked, and in a sweep."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.records.run import Predictions, RunSummary
from src.runs.seal import changed_since
from src.tracking.addresses import default_uri
from tests.entries.commands import kill, mlflow_runs, wait_until
from tests.entries.conftest import Begin, Outputs, Run, Train
from tests.entries.sweeps import STUDY, folder, trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OVERRIDES = [
    *("model=mlp", "model.dropout=0.3", "runtime=float32", "runtime.threads=1"),
    *("data.batch_size=16", "trainer.max_epochs=3", "cv.folds=3", "trainer.progress=false"),
    "tracking.figures=false",
]


def whole_of(output_dir: Path) -> Path:
    """The folder of the one cross-validation there is."""
    (book,) = (output_dir / "runs").glob("*/folds.json")
    return book.parent


def runs_of(whole: Path) -> list[Path]:
    runs: dict[str, str] = json.loads((whole / "folds.json").read_text())["runs"]
    return [whole.parent / name for name in runs.values()]


def same_answers(one: Path, other: Path) -> None:
    a, b = (Predictions.read(path / "predictions" / "val.parquet") for path in (one, other))
    np.testing.assert_array_equal(a.sample_ids, b.sample_ids)
    np.testing.assert_array_equal(a.probs, b.probs)


def in_the_second_fold(output_dir: Path) -> bool:
    """Whether the second fold has an epoch behind it, and not all."""
    for book in (output_dir / "runs").glob("*/folds.json"):
        runs = runs_of(book.parent)
        if len(runs) == 2:
            spool = (runs[1] / "tracking" / "spool.jsonl").read_text()
            return spool.count('"train/loss"') >= 1
    return False


@pytest.fixture(scope="module")
def undisturbed(run: Run, outputs: Outputs) -> Path:
    output_dir = outputs("whole")
    result = run("src.train", *OVERRIDES, f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    assert "over folds" in result.stdout and "3 folds, " in result.stdout
    return output_dir


def test_one_that_was_killed_ends_with_the_same_numbers(
    undisturbed: Path, run: Run, begin: Begin, tmp_path: Path
) -> None:
    process = begin("src.train", *OVERRIDES, "tracking=none", f"output_dir={tmp_path}")
    wait_until(lambda: in_the_second_fold(tmp_path), process, pause=0.005)
    kill(process)
    whole = whole_of(tmp_path)
    killed = runs_of(whole)[1]
    assert not (whole / "summary.json").exists() and not (killed / "summary.json").exists()
    result = run("src.train", f"resume={whole.name}", f"output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert runs_of(whole)[1] == killed and len(runs_of(whole)) == 3, "the fold went on"
    same_answers(whole, whole_of(undisturbed))
    ours, theirs = (RunSummary.read(one / "summary.json") for one in (whole, whole_of(undisturbed)))
    assert ours.split_fingerprint == theirs.split_fingerprint
    assert ours.folds is not None and theirs.folds is not None
    for key in ("val/accuracy", "val/log_loss", "val/brier", "train/loss"):
        assert ours.folds[key] == theirs.folds[key]


def test_mlflow_has_the_whole_with_its_folds_below(undisturbed: Path) -> None:
    found = mlflow_runs(undisturbed)
    (parent,) = (run for run in found.values() if "mlflow.parentRunId" not in run)
    children = [run for run in found.values() if run is not parent]
    assert [run["mlflow.parentRunId"] for run in children] == [parent["id"]] * 3
    assert {run["bakeoff.fold"] for run in children} == {"1", "2", "3"}
    assert {run["status"] for run in found.values()} == {"FINISHED"}
    summary = RunSummary.read(whole_of(undisturbed) / "summary.json")
    assert summary.run_id == parent["id"]


def test_mlflows_first_screen_lists_no_folds(undisturbed: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(default_uri(undisturbed))
    (experiment,) = (one for one in client.search_experiments() if one.name == "bakeoff-digits")
    view = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.bakeoff"])["state"])
    shown = client.search_runs([experiment.experiment_id], view["searchFilter"])
    assert [run.info.run_name for run in shown] == [whole_of(undisturbed).name]
    assert len(client.search_runs([experiment.experiment_id])) == 4


def test_what_has_no_model_or_no_test_says_so(undisturbed: Path, run: Run) -> None:
    whole = whole_of(undisturbed)
    overrides = [f"output_dir={undisturbed}", "tracking.uri=null"]
    result = run("src.evaluate", f"run={whole.name}", "split=val", *overrides)
    assert result.returncode == 2 and "leaves a model for each fold" in result.stderr
    fold = runs_of(whole)[0]
    result = run("src.evaluate", f"run={fold.name}", "split=test", *overrides)
    assert result.returncode == 2 and "leaves the test part alone" in result.stderr
    before = RunSummary.read(fold / "summary.json").metrics["val/accuracy"]
    result = run("src.evaluate", f"run={fold.name}", "split=val", *overrides)
    assert result.returncode == 0, result.stderr
    assert RunSummary.read(fold / "summary.json").metrics["val/accuracy"] == before
    assert not (undisturbed / "test_measurements.jsonl").exists()


SWEEP = [
    *("families=[mlp]", "runtime=float32", "runtime.threads=1", "workers.threads=1"),
    *("workers.count=1", "trainer.accelerator=cpu", "data.batch_size=64", "trainer.max_epochs=1"),
    *("budget.trials=6", "budget.minutes=null", "finalists=1", "finalist_seeds=1"),
    *("sampler=random", f"study={STUDY}", "cv.folds=5", "pruner=wilcoxon"),
]


@pytest.fixture(scope="module")
def swept(run: Run, outputs: Outputs) -> tuple[Path, dict[str, Any]]:
    output_dir = outputs("swept")
    result = run("src.sweep", *SWEEP, f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr
    record: dict[str, Any] = json.loads((folder(output_dir) / "sweep.json").read_text())
    return output_dir, record


def test_a_sweep_reports_folds_and_prunes_by_them(swept: tuple[Path, dict[str, Any]]) -> None:
    output_dir, _ = swept
    found = trials(output_dir)
    assert {trial.state.name for trial in found} == {"COMPLETE", "PRUNED"}
    for trial in found:
        whole = Path(trial.user_attrs["run_dir"])
        summary = RunSummary.read(whole / "summary.json")
        assert summary.folds is not None
        reported = list(trial.intermediate_values.values())
        assert summary.folds["val/accuracy"] == reported
        left = [(path / "checkpoints").exists() for path in runs_of(whole)]
        if trial.state.name == "COMPLETE":
            assert len(reported) == 5 and all(left)
            assert trial.value == pytest.approx(sum(reported) / 5)
        else:
            assert len(reported) == 4 and not any(left), "a loser leaves no checkpoint"
            assert summary.status == "KILLED" and "after 4 folds" in str(summary.reason)
            assert all(changed_since(path, ["*"]) is None for path in runs_of(whole))


def test_the_winner_is_trained_once_more_for_its_test(
    swept: tuple[Path, dict[str, Any]],
) -> None:
    output_dir, record = swept
    (finalist,) = record["finalists"]
    whole = Path(finalist["run_dirs"]["1"])
    assert len(runs_of(whole)) == 5 and RunSummary.read(whole / "summary.json").seed == 1
    (line,) = (output_dir / "test_measurements.jsonl").read_text().splitlines()
    by_id = {run["bakeoff.run_id"]: run for run in mlflow_runs(output_dir).values()}
    measured = by_id[json.loads(line)["run_id"]]
    assert measured["name"].endswith("-seed1-test") and "bakeoff.fold" not in measured
    command = record["commands"][str(record["winner"])]
    assert {"cv.folds=null", "seed=1"} <= set(shlex.split(command))
    assert measured["bakeoff.command"].endswith("evaluate_test=false")
    assert "test/accuracy" in record["test"]
    parents = {run["mlflow.parentRunId"] for run in by_id.values() if "bakeoff.fold" in run}
    assert len(parents) == 7, "six trials and a finalist have folds of their own"


def test_the_next_step_after_folds_is_a_refit(swept: tuple[Path, dict[str, Any]], run: Run) -> None:
    overrides = [f"sweep={STUDY}", f"output_dir={swept[0]}", "tracking.enabled=false"]
    compared = run("src.compare", *overrides)
    assert compared.stdout.rstrip().endswith("refit=true"), compared.stdout + compared.stderr
    refused = run("src.select", *overrides)
    assert refused.returncode == 2 and "set refit=true" in refused.stderr


def test_a_trials_command_repeats_its_folds(
    swept: tuple[Path, dict[str, Any]], train: Train, tmp_path: Path
) -> None:
    output_dir, record = swept
    number = next(t["number"] for t in record["trials"] if t["state"] == "pruned")
    whole = Path(trials(output_dir)[number].user_attrs["run_dir"])
    second = runs_of(whole)[1]
    _, _, module, *overrides = shlex.split(RunSummary.read(second / "summary.json").command)
    assert "cv.fold=2" in overrides
    assert module == "src.train"
    same_answers(train(tmp_path, *overrides, "tracking=none"), second)
