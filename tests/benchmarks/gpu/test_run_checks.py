"""Checks in processes of their own: rows, failures, limits and the table."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.commands import environment
from benchmarks.gpu import CHECKS, Check, chosen_checks, run_checks
from benchmarks.table import Row


def test_every_check_is_there_and_all_fit_into_the_time() -> None:
    for check in CHECKS.values():
        module, _, name = check.target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
    alone = [check.seconds for check in CHECKS.values() if not check.beside]
    beside = [check.seconds for check in CHECKS.values() if check.beside]
    assert sum(alone) + max(beside) <= gpu._SECONDS


def test_without_a_gpu_one_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.measure() == []
    assert capsys.readouterr().out.count("\n") == 1


def test_a_list_chooses_in_its_order_and_refuses_what_is_none() -> None:
    assert list(chosen_checks(" plans,epoch ")) == ["plans", "epoch"]
    assert chosen_checks("") == CHECKS
    with pytest.raises(SystemExit) as left:
        chosen_checks("epoch,nothing")
    assert left.value.code == 2


@pytest.mark.slow
def test_one_that_fails_or_hangs_costs_the_others_nothing(tmp_path: Path) -> None:
    limits = {"fails": 150, "hangs": 20, "skips": 150}
    checks = {
        name: Check(f"tests.benchmarks.gpu.stand_ins:{name}", seconds)
        for name, seconds in limits.items()
    }
    rows = run_checks(checks, tmp_path, "cpu", about={"device": "none"})
    assert [row.result for row in rows] == ["met", "MISSED", "met", "MISSED", "skipped"]
    assert "exit code 1" in rows[1].measured and rows[3].measured == "ended after 20 s"
    stored = json.loads((tmp_path / "gpu.json").read_text())
    assert stored["device"] == "none" and len(stored["rows"]) == 5
    assert (tmp_path / "gpu.txt").read_text().count("\n") == 7
    assert "RuntimeError: on purpose" in (tmp_path / "fails.log").read_text()


@pytest.mark.slow
def test_those_that_time_nothing_run_beside_each_other_at_the_end(tmp_path: Path) -> None:
    place = "tests.benchmarks.gpu.stand_ins"
    checks = {
        "one": Check(f"{place}:meets", 150, beside=True),
        "skips": Check(f"{place}:skips", 150),
        "other": Check(f"{place}:meets", 150, beside=True),
    }
    with environment(BAKEOFF_MEETING=str(tmp_path / "meeting")):
        rows = run_checks(checks, tmp_path, "cpu")
    assert [row.what for row in rows] == ["skips", "meets", "meets"]
    assert [row.result for row in rows] == ["skipped", "met", "met"], rows


def test_what_no_time_is_left_for_is_skipped(tmp_path: Path) -> None:
    (row,) = run_checks(
        {"late": Check("tests.benchmarks.gpu.stand_ins:skips", 40)}, tmp_path, "cpu", seconds=1
    )
    assert row == Row("late", "skipped: no time was left", "", None)


def test_the_environment_limits_the_time_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setenv("BAKEOFF_GPU_OUT", str(tmp_path))
    monkeypatch.setenv("BAKEOFF_GPU_CHECKS", "slots,epoch")
    monkeypatch.setenv("BAKEOFF_GPU_SECONDS", "1")
    assert [row.what for row in gpu.measure()] == ["epoch", "slots"]
