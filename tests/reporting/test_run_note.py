"""The description of a run in MLflow."""

from __future__ import annotations

from dataclasses import replace

from src.reporting.run_note import run_note
from tests.records.summaries import SUMMARY


def test_a_run_is_described_from_its_begin_and_gets_its_results_at_its_end() -> None:
    headline, command = "cnn on my_photos: 3 train pictures", "python -m src.train model=cnn"
    begun = run_note(headline, command)
    assert begun == f"cnn on my\\_photos: 3 train pictures\n\n```\n{command}\n```"
    ended = run_note(headline, command, replace(SUMMARY, reason="why *not*"))
    assert (
        "- validation accuracy: 50.0 %\n- finished: after 2.5 s\n- reason: why \\*not\\*" in ended
    )
    assert "test accuracy" not in ended and ended.endswith(f"```\n{command}\n```")


def test_a_command_of_any_length_leaves_its_block_closed() -> None:
    text = run_note("cnn", "x" * 10_000)
    assert len(text) < 5000 and text.endswith("\n```")
