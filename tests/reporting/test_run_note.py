"""The description of a run in MLflow."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace

import pytest

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


@pytest.mark.parametrize(
    ("metrics", "lines"),
    [
        (
            {"map": 0.5, "macro_f1": 0.25, "accuracy": 0.125},
            [
                "validation: mean average precision 50.0 %, macro F1 25.0 %",
                "validation exact match: 12.5 %",
            ],
        ),
        (
            {"kappa": 0.5, "mae": 0.25, "accuracy": 0.125},
            [
                "validation: quadratic kappa 0.500, mean absolute error 0.25 classes",
                "validation accuracy: 12.5 %",
            ],
        ),
        (
            {"miou": 0.5, "dice": 0.625, "pixel_accuracy": 0.75},
            ["validation: mean IoU 50.0 %, Dice 62.5 %, pixel accuracy 75.0 %"],
        ),
    ],
)
def test_every_kind_of_targets_is_described_by_its_figures(
    metrics: dict[str, float], lines: list[str]
) -> None:
    found = {f"val/{key}": value for key, value in metrics.items()}
    text = run_note("cnn", "python -m src.train", replace(SUMMARY, metrics=found))
    said = [line for line in text.splitlines() if line.startswith("- ")]
    assert said[: len(lines)] == [f"- {line}" for line in lines]
    assert len(said) == len(lines) + 1, "and how long it took"


def test_a_command_of_any_length_leaves_its_block_closed() -> None:
    text = run_note("cnn", "x" * 10_000)
    assert len(text) < 5000 and text.endswith("\n```")


def test_a_command_with_marks_of_a_block_does_not_end_it() -> None:
    command = "python -m src.train 'data.root=/a\n```\nb'"
    assert run_note("cnn", command).endswith(f"\n\n````\n{command}\n````")


def test_a_long_command_is_in_lines_that_a_shell_reads_as_one() -> None:
    words = ["data.root=/my photos/it's here", *(f"model.setting_{at}={at}" for at in range(20))]
    command = shlex.join(["python", "-m", "src.train", *words])
    block = run_note("cnn", command).split("```")[1]
    assert max(map(len, block.splitlines())) < 80
    done = subprocess.run(
        ["sh", "-c", f"set -- {block.strip()}; printf '%s\\n' \"$@\""],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == shlex.split(command)
