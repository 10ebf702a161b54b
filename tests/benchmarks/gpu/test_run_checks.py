"""Checks in processes of their own: rows, failures, limits and the table."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import CHECKS, Check, chosen_checks, run_checks
from benchmarks.table import Row


def test_every_check_is_there_and_all_fit_into_the_time() -> None:
    for check in CHECKS.values():
        module, _, name = check.target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))
    assert sum(check.seconds for check in list(CHECKS.values())[:6]) < 24 * 60


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
    names = ("fails", "hangs", "skips")
    checks = {name: Check(f"tests.benchmarks.gpu.stand_ins:{name}", 40) for name in names}
    rows = run_checks(checks, tmp_path, "cpu", about={"device": "none"})
    assert [row.result for row in rows] == ["met", "MISSED", "met", "MISSED", "skipped"]
    assert "exit code 1" in rows[1].measured and rows[3].measured == "ended after 40 s"
    stored = json.loads((tmp_path / "gpu.json").read_text())
    assert stored["device"] == "none" and len(stored["rows"]) == 5
    assert (tmp_path / "gpu.txt").read_text().count("\n") == 7
    assert "RuntimeError: on purpose" in (tmp_path / "gpu.log").read_text()


def test_what_no_time_is_left_for_is_skipped(tmp_path: Path) -> None:
    (row,) = run_checks(
        {"late": Check("tests.benchmarks.gpu.stand_ins:skips", 40)}, tmp_path, "cpu", seconds=1
    )
    assert row == Row("late", "skipped: no time was left", "", None)
