"""The command that takes a comparison's choice, which `compare` prints."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from src.records.comparison import Comparison
from src.records.run import RunSummary
from src.selection.choice import choice_command

_OVERRIDES = [
    "sweep=s",
    "ensemble=true",
    "subgroup=eye",
    "output_dir=elsewhere",
    "tracking.enabled=false",
]


def _chosen(run_dir: Path) -> Comparison:
    run_dir.mkdir(exist_ok=True)
    return cast(Comparison, SimpleNamespace(choice=SimpleNamespace(run_dirs=(str(run_dir),))))


def _command(comparison: Comparison, **more: Any) -> str | None:
    return choice_command(comparison, more.pop("part", "val"), _OVERRIDES, **more)


def test_a_candidate_is_chosen_by_the_same_comparison(tmp_path: Path) -> None:
    found = _command(_chosen(tmp_path / "mlp"))
    assert found is not None and found.endswith(
        "src.select sweep=s output_dir=elsewhere tracking.enabled=false"
    )


def test_a_combination_that_was_made_is_chosen_by_its_name(tmp_path: Path) -> None:
    made = cast(RunSummary, SimpleNamespace(run_dir=str(tmp_path / "ensemble")))
    found = _command(_chosen(tmp_path / "ensemble"), made=made)
    assert found is not None and found.endswith(
        "src.select run=ensemble output_dir=elsewhere tracking.enabled=false"
    )
    found = _command(_chosen(tmp_path / "mlp"), made=made)
    assert found is not None and "sweep=s" in found


def test_folds_are_refitted_and_the_test_part_chooses_nothing(tmp_path: Path) -> None:
    folds = _chosen(tmp_path / "folds")
    (tmp_path / "folds" / "folds.json").write_text(json.dumps({}))
    assert str(_command(folds)).endswith(" refit=true")
    assert _command(folds, part="test") is None
