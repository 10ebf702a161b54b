"""A race in which every training of one family diverges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.entries.conftest import Run
from tests.entries.sweeps import WORDS, folder, trials

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_what_diverges_is_told_and_never_recommended(run: Run, tmp_path: Path) -> None:
    words = [word for word in WORDS if not word.startswith(("families=", "budget.", "finalist"))]
    words += ["families=[mlp,handcrafted]", "optimizer=sgd", "optimizer.lr=1e30"]
    words += ["search=[model.classifier]", "budget.trials=3", "finalists=2", "finalist_seeds=1"]
    words += ["failure_limit=0.9"]
    result = run("src.sweep", *words, f"output_dir={tmp_path}", timeout=600)
    assert result.returncode == 0, result.stderr
    found = trials(tmp_path)
    by_family: dict[str, set[str]] = {}
    for trial in found:
        by_family.setdefault(trial.params["family"], set()).add(trial.state.name)
    assert by_family["mlp"] == {"FAIL"} and "COMPLETE" in by_family["handcrafted"]
    failed = next(trial for trial in found if trial.state.name == "FAIL")
    assert "loss" in failed.user_attrs["reason"] and "optimizer.lr" in failed.user_attrs["reason"]
    record = json.loads((folder(tmp_path) / "sweep.json").read_text())
    (winner,) = (trial for trial in found if trial.number == record["winner"])
    assert winner.params["family"] == "handcrafted"
