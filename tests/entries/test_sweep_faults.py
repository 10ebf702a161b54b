"""Sweeps whose workers are killed, whose losses diverge, and whose disk is full."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.entries.commands import mlflow_runs
from tests.entries.conftest import Begin, Outputs, Run
from tests.entries.small_disk import on_a_full_disk
from tests.entries.sweeps import (
    OVERRIDES,
    RACE,
    folder,
    states,
    trains,
    trials,
    wait_for,
    worker_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Epochs long enough to be met in the middle, whatever is drawn.
SLOW = ["data.batch_size=4", "pruner=none"]


def test_a_killed_worker_costs_an_attempt_and_a_second_one_the_trial(
    begin: Begin, outputs: Outputs
) -> None:
    output_dir = outputs("sweep")
    overrides = [*RACE, *SLOW, "trainer.max_epochs=6", "budget.trials=2", "workers.count=2"]
    sweep = begin("src.sweep", *overrides, "search=[model.*]", f"output_dir={output_dir}")
    found = wait_for(lambda known: trains(0)(known) and trains(1)(known), output_dir, sweep)
    run_dir, other = (trial.user_attrs["run_dir"] for trial in found)
    worker_of(sweep, run_dir).kill()
    # It goes on from its checkpoint, in the same folder.
    known = len(found[0].intermediate_values)
    found = wait_for(trains(0, known + 2), output_dir, sweep)
    assert found[0].user_attrs["run_dir"] == run_dir
    reached = len(found[0].intermediate_values)
    worker_of(sweep, run_dir).kill()
    output, error = sweep.communicate()
    assert sweep.returncode == 0, error
    assert states(output_dir) == ["FAIL", "COMPLETE"]
    assert "mlp-0  failed" in error and "ended by signal 9" in error
    assert "2 trials (1 complete, 1 failed)" in output
    first, second = trials(output_dir)
    assert first.user_attrs["reason"] == "its worker ended by signal 9 (out of memory?)"
    assert len(first.intermediate_values) in (reached, reached + 1)
    assert len(second.intermediate_values) == 6 and second.user_attrs["run_dir"] == other
    runs = mlflow_runs(output_dir)
    by_trial = {run["bakeoff.trial"]: run for run in runs.values() if "bakeoff.trial" in run}
    assert len(runs) == 3 and by_trial.keys() == {"0", "1"}
    assert (by_trial["0"]["status"], by_trial["0"]["bakeoff.state"]) == ("FAILED", "failed")
    assert (by_trial["1"]["status"], by_trial["1"]["bakeoff.state"]) == ("FINISHED", "complete")


def test_lost_losses_fail_their_trials_and_end_the_sweep_in_a_sentence(
    run: Run, outputs: Outputs
) -> None:
    output_dir = outputs("sweep")
    overrides = [*OVERRIDES, "optimizer=sgd", "optimizer.lr=1e30", "trainer.gradient_clip=null"]
    result = run("src.sweep", *overrides, "budget.trials=20", f"output_dir={output_dir}")
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: 3 of 3 trials failed, so the sweep stops; ")
    assert "the loss became" in last and str(folder(output_dir) / "workers") in last
    assert "Traceback" not in result.stderr
    assert set(states(output_dir)) <= {"FAIL", "RUNNING"}
    runs = mlflow_runs(output_dir)
    (parent,) = (r for r in runs.values() if "mlflow.parentRunId" not in r)
    assert parent["status"] == "FAILED"
    failed = [r for r in runs.values() if r.get("bakeoff.state") == "failed"]
    assert len(failed) >= 3 and {r["status"] for r in failed} == {"FAILED"}


def test_a_full_disk_ends_it_in_a_sentence_and_it_goes_on(
    environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    overrides = [*RACE, *SLOW, "trainer.max_epochs=3", "tracking=none", "budget.trials=2"]
    typed = [*overrides, "output_dir=DISK"]
    a_trial_reports = """'"op_code":7' "$out"/sweeps/s/study.journal"""
    result, _, kept = on_a_full_disk(
        "60m", tmp_path, environment, "src.sweep", *typed, sign=a_trial_reports
    )
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "room" in last, result.stderr
    assert "Traceback" not in result.stderr
    result = run("src.sweep", *overrides, f"output_dir={kept}")
    assert result.returncode == 0, result.stderr
    assert len(states(kept)) == 2 and "COMPLETE" in states(kept)


def test_what_diverges_is_told_and_never_recommended(run: Run, outputs: Outputs) -> None:
    output_dir = outputs("sweep")
    overrides = [
        override
        for override in OVERRIDES
        if not override.startswith(("families=", "budget.", "finalist"))
    ]
    overrides += ["families=[mlp,handcrafted]", "optimizer=sgd", "optimizer.lr=1e30"]
    overrides += ["search=[model.classifier]", "budget.trials=3", "finalists=2", "finalist_seeds=1"]
    overrides += ["failure_limit=0.9"]
    result = run("src.sweep", *overrides, f"output_dir={output_dir}")
    assert result.returncode == 0, result.stderr
    found = trials(output_dir)
    by_family: dict[str, set[str]] = {}
    for trial in found:
        by_family.setdefault(trial.params["family"], set()).add(trial.state.name)
    assert by_family["mlp"] == {"FAIL"} and "COMPLETE" in by_family["handcrafted"]
    failed = next(trial for trial in found if trial.state.name == "FAIL")
    assert "loss" in failed.user_attrs["reason"] and "optimizer.lr" in failed.user_attrs["reason"]
    record = json.loads((folder(output_dir) / "sweep.json").read_text())
    (winner,) = (trial for trial in found if trial.number == record["winner"])
    assert winner.params["family"] == "handcrafted"
