from __future__ import annotations

from pathlib import Path

import pytest

from src.config.tracking import TrackingSwitch
from src.selection.comparison import compared
from src.selection.comparison.mirror import begun
from src.selection.comparison.write import comparison_folder
from src.tracking.spool import last_start, read_events, spool_path
from tests.selection.comparison.runs import compare_settings, finished_run


def mirrored(output_dir: Path, **asked: object) -> Path:
    settings = compare_settings(output_dir, **asked)
    folder = comparison_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with begun(compared(settings), folder, settings) as tracker:
        (folder / "report.html").write_text("x")
        tracker.artifact(folder / "report.html")
    assert tracker.finish("FINISHED") is None
    return folder


def test_the_comparison_is_a_run_with_the_verdict_and_the_report(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 150)
    folder = mirrored(tmp_path)
    start = last_start(folder)
    assert start["run_name"] == "compare-all" and start["experiment"] == "bakeoff"
    assert start["tags"]["bakeoff.kind"] == "compare" and start["tags"]["bakeoff.winner"] == "cnn"
    assert "cnn comes first of 2 candidates" in start["tags"]["mlflow.note.content"]
    assert (
        "The test part of this split has not been measured."
        in (start["tags"]["mlflow.note.content"])
    )
    events = [event for event, _ in read_events(spool_path(folder))]
    artifacts = {e["path"]: e["folder"] for e in events if e["event"] == "artifact"}
    assert artifacts == {"report.html": ""}
    (figures,) = (e["values"] for e in events if e["event"] == "metrics")
    assert figures["compared/runs"] == 2 and figures["compared/tied"] == 1
    assert figures["winner/accuracy_low"] < figures["winner/accuracy"] < 0.976
    assert events[-1]["status"] == "FINISHED"


def test_a_report_that_cannot_be_written_is_how_the_run_ends(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    settings = compare_settings(tmp_path)
    folder = comparison_folder(settings)
    with pytest.raises(OSError, match="full"), begun(compared(settings), folder, settings):
        raise OSError("the disk is full")
    last = [event for event, _ in read_events(spool_path(folder))][-1]
    assert (last["status"], last["reason"]) == ("FAILED", "OSError: the disk is full")


def test_the_same_question_goes_on_with_the_same_run(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    first = last_start(mirrored(tmp_path))
    finished_run(tmp_path, "mlp", 5)
    second = last_start(mirrored(tmp_path))
    assert first["run_id"] == second["run_id"]
    assert second["tags"]["bakeoff.winner"] == "mlp"
    assert last_start(mirrored(tmp_path, data="pictures"))["run_id"] != first["run_id"]


def test_runs_that_nobody_tracks_are_not_tracked_by_comparing_them(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    asked = TrackingSwitch(enabled=True, uri=None)
    assert last_start(mirrored(tmp_path, tracking=asked))["mirrored"] is False
    assert not (tmp_path / "mlflow.db").exists()
