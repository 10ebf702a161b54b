"""One small sweep from beginning to end, as a person starts it, and what it left behind."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.entries.commands import mlflow_runs, summary_of
from tests.entries.conftest import Outputs, Run, Train
from tests.entries.sweeps import OVERRIDES, RACE, STUDY, folder, trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def swept(run: Run, outputs: Outputs) -> tuple[Path, str]:
    """The output folder of a finished sweep, and what it printed.

    Which trials are pruned depends on those that ended before: with one worker, always the same.
    """
    output_dir = outputs("a sweep")
    result = run("src.sweep", *OVERRIDES, f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    return output_dir, result.stdout


def test_the_default_comes_first_and_the_losers_leave_no_checkpoint(
    swept: tuple[Path, str],
) -> None:
    output_dir, printed = swept
    found = trials(output_dir)
    assert len(found) == 4 and found[0].user_attrs["default"] is True
    assert {trial.state.name for trial in found} == {"COMPLETE", "PRUNED"}
    for trial in found:
        checkpoints = Path(trial.user_attrs["run_dir"]) / "checkpoints"
        assert checkpoints.exists() == (trial.state.name == "COMPLETE")
    assert "4 trials (" in printed and str(output_dir / "sweeps" / STUDY / "sweep.html") in printed
    assert printed.splitlines()[-1].startswith(f"next: python -m src.compare sweep={STUDY} ")


def test_mlflow_has_one_parent_and_a_child_a_trial(swept: tuple[Path, str]) -> None:
    output_dir, _ = swept
    runs = mlflow_runs(output_dir)
    (parent,) = (run for run in runs.values() if "mlflow.parentRunId" not in run)
    assert parent["status"] == "FINISHED" and parent["bakeoff.sweep"] == STUDY
    assert parent["bakeoff.command"].startswith("python -m src.sweep ")
    children = [run for run in runs.values() if run is not parent]
    assert len(children) == 4 + 2
    assert all(run["mlflow.parentRunId"] == parent["id"] for run in children)
    for trial in trials(output_dir):
        (child,) = (
            run
            for run in children
            if run["bakeoff.trial"] == str(trial.number) and "bakeoff.finalist_seed" not in run
        )
        complete = trial.state.name == "COMPLETE"
        assert child["bakeoff.sweep"] == STUDY and child["bakeoff.family"] == "mlp"
        assert child["name"] == f"mlp-{trial.number}", "the name that it has everywhere"
        assert child["status"] == "FINISHED", "a pruned trial is no failure"
        assert child["bakeoff.state"] == ("complete" if complete else "pruned")
        assert child["bakeoff.command"].startswith("python -m src.train model=mlp ")
        assert child["bakeoff.run_id"] == trial.user_attrs["run_id"]


def test_a_trials_command_repeats_it(swept: tuple[Path, str], train: Train, tmp_path: Path) -> None:
    output_dir, _ = swept
    record = json.loads((folder(output_dir) / "sweep.json").read_text())
    best = max((t for t in record["trials"] if t["objectives"]), key=lambda t: t["objectives"][0])
    # In front: a default that was searched away from would not be noticed by the default trial.
    if best["number"] == 0:
        others = [t for t in record["trials"] if t["objectives"] and t["number"] > 0]
        best = others[0] if others else best
    _, _, module, *overrides = shlex.split(record["commands"][str(best["number"])])
    # The winner's command names the seed of its best finalist, which is not the trial's.
    overrides = [override for override in overrides if not override.startswith("seed=")]
    assert module == "src.train"
    summary = summary_of(train(tmp_path, *overrides, "tracking=none"))
    assert summary["metrics"]["val/accuracy"] == best["objectives"][0]
    assert summary["test_measurements"] is None


def test_the_test_part_is_measured_once_by_the_winner(swept: tuple[Path, str]) -> None:
    output_dir, printed = swept
    ledger = (output_dir / "test_measurements.jsonl").read_text().splitlines()
    assert len(ledger) == 1
    runs = {run["bakeoff.run_id"]: run for run in mlflow_runs(output_dir).values()}
    measured = runs[json.loads(ledger[0])["run_id"]]
    assert measured["bakeoff.finalist_seed"] == "1"
    assert "test part measured  once on this split" in printed and "caution" not in printed


def test_a_sweep_without_the_test_part_never_looks_at_it(run: Run, tmp_path: Path) -> None:
    """Nor does it praise a winner that has learnt nothing."""
    overrides = [
        *OVERRIDES,
        "evaluate_test=false",
        "budget.trials=1",
        "tracking=none",
        "optimizer.lr=1e-9",
    ]
    result = run("src.sweep", *overrides, f"output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "test_measurements.jsonl").exists()
    assert "winner" in result.stdout and "test accuracy" not in result.stdout
    caution = "mlp-0 is not significantly better than the constant baseline"
    assert caution in result.stdout
    page = (folder(tmp_path) / "sweep.html").read_text()
    assert caution in page and "is no better than a constant answer" in page


def test_trials_on_two_devices_are_processes_of_their_own(run: Run, tmp_path: Path) -> None:
    overrides = [*RACE, "trainer.devices=2", "budget.trials=2", "tracking=none"]
    result = run("src.sweep", *overrides, f"output_dir={tmp_path}")
    assert result.returncode == 0, result.stderr
    found = trials(tmp_path)
    assert {t.state.name for t in found} <= {"COMPLETE", "PRUNED"} and len(found) == 2
    assert found[0].state.name == "COMPLETE" and len(found[0].intermediate_values) == 3
    for trial in found:
        run_dir = Path(trial.user_attrs["run_dir"])
        complete = trial.state.name == "COMPLETE"
        assert summary_of(run_dir)["status"] == ("FINISHED" if complete else "KILLED")
        assert (run_dir / "checkpoints").exists() == complete
    assert len(list((tmp_path / "runs").iterdir())) == 2, "the other device made a run of its own"


def test_compare_and_select_tell_of_the_winner_of_the_sweep(
    swept: tuple[Path, str], run: Run
) -> None:
    output_dir, printed = swept
    record = json.loads((folder(output_dir) / "sweep.json").read_text())
    name = f"mlp-{record['winner']}"
    assert f"winner              {name}" in printed
    overrides = [f"sweep={STUDY}", f"output_dir={output_dir}"]
    compared = run("src.compare", *overrides)
    assert f"{name} is the only candidate, selected from " in compared.stdout, compared.stderr
    selected = run("src.select", *overrides, "tracking.enabled=false")
    assert selected.returncode == 0, selected.stderr
    (finalist,) = record["finalists"]
    assert f"chosen: {name} ({Path(finalist['run_dirs']['1']).name}), " in selected.stdout
    # The test part was measured with this run by the sweep.
    assert "not measured again" in selected.stdout
    assert len((output_dir / "test_measurements.jsonl").read_text().splitlines()) == 1
