"""The exit codes and the lines of `python -m src.verify`, in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from src import verify
from tests.verification.test_verifying import flip, sealed_run


def test_exit_codes_say_whether_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def code(*words: str) -> int:
        place = [f"output_dir={tmp_path / 'out'}", f"cache_dir={tmp_path / 'cache'}"]
        monkeypatch.setattr(sys, "argv", ["verify", *place, *words])
        return verify.main()

    folder = sealed_run(tmp_path / "out")
    assert code() == 0
    assert "checked 1 runs and 0 studies" in capsys.readouterr().out
    assert code("run=nobody") == code("runs=1") == 2
    flip(folder.path / "tracking" / "spool.jsonl", 30)
    assert code() == 1 and "line 1 is damaged" in capsys.readouterr().out
    assert code("repair=true") == 0 and "put aside" in capsys.readouterr().out
    assert code() == 0
    flip(folder.summary, 30)
    capsys.readouterr()
    assert code(f"run={folder.name}", "repair=true") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(f"damaged  {folder.summary}: ")
