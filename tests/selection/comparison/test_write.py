from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from pathlib import Path
from typing import Any, NoReturn

import pytest

from src.compare import compare
from src.config.checks import ConfigError
from src.config.finished import CompareSettings
from src.config.tracking import TrackingSwitch
from src.machine.interruption import Interrupted
from src.machine.spare_cores import SpareCores
from src.selection.comparison import compared
from src.selection.comparison.write import comparison_folder, write_comparison
from src.selection.comparison.write import tracked as tracked_comparison
from src.tracking.events import last_start, read_events, spool_path
from tests.selection.comparison.runs import compare_settings, finished_run


@pytest.fixture
def asked(tmp_path: Path) -> CompareSettings:
    """What compares two finished runs."""
    finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 20)
    return compare_settings(tmp_path)


def test_a_comparison_leaves_tables_a_page_and_pictures(
    asked: CompareSettings, tmp_path: Path
) -> None:
    old = comparison_folder(asked) / "figures" / "importance.png"
    old.parent.mkdir(parents=True)
    old.touch()
    files = list(write_comparison(compared(asked), asked))
    assert all(path.is_file() for path in files) and not old.exists()
    folder = tmp_path / "compare" / "all"
    assert {path.parent for path in files} == {folder, folder / "figures"}
    names = [path.name for path in files]
    assert names[:3] == ["leaderboard.json", "leaderboard.csv", "report.html"]
    assert json.loads(files[0].read_text())["winner"] == "cnn-0"
    assert "cnn-0 comes first of 2 candidates" in files[2].read_text()
    assert "confusion_2.png" in names


def test_a_place_that_cannot_be_written_is_named_with_its_setting(
    asked: CompareSettings, tmp_path: Path
) -> None:
    (tmp_path / "compare").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match=r"^output_dir: .*/compare.* cannot be written: "):
        compare(asked, [])


def test_figures_stay_until_others_are_drawn(
    asked: CompareSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [path.read_bytes() for path in write_comparison(compared(asked), asked)]

    def full(path: Path) -> None:
        if path.suffix == ".png":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("src.storage.files._flush", full)
    with pytest.raises(OSError, match="No space left"):
        list(write_comparison(compared(asked), asked))
    after = [path.read_bytes() for path in (tmp_path / "compare").rglob("*.*") if path.is_file()]
    assert sorted(after) == sorted(before)


class _Ended:
    """Processes of which one is ended while it draws."""

    def share(self, work: Callable[..., Any], *values: Any) -> list[Future[Any]]:
        whole, ended = Future[Any](), Future[Any]()
        whole.set_result(work(*values, 0, 2))
        ended.set_exception(BrokenExecutor())
        return [whole, ended]


@pytest.mark.slow
def test_other_processes_read_and_draw_the_same_and_are_done_without_where_they_end(
    asked: CompareSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = compared(asked)
    before = {path: path.read_bytes() for path in write_comparison(comparison, asked)}

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("it is left to other processes")

    monkeypatch.setattr("src.machine.spare_cores.threads_beside", lambda others, most: 2)
    with SpareCores("src.reporting.comparison_figures", least=2) as spare:
        monkeypatch.setattr("src.machine.spare_cores.in_order", _none_left)
        by_others = compared(asked, spare=spare)
        monkeypatch.setattr("src.reporting.comparison_figures.draw_comparison_figures", refuse)
        files = [*write_comparison(by_others, asked, None, spare)]
    assert {path: path.read_bytes() for path in files} == before and len(files) == len(before)
    monkeypatch.undo()
    ended: Any = _Ended()
    files = [*write_comparison(comparison, asked, None, ended)]
    assert {path: path.read_bytes() for path in files} == before and len(files) == len(before)


def _none_left(work: object, items: Sequence[object], workers: int) -> Sequence[object]:
    assert not items
    return items


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "all"),
        ({"sweep": "s"}, "s"),
        ({"data": "digits", "part": "test"}, "data-digits-test"),
        ({"experiment": "my runs/1"}, "experiment-my_runs_1"),
        ({"sweep": "s", "gap": 0.02, "band": 0.01}, "s-gap-0.02-band-0.01"),
        ({"metric": "cost", "costs": "a b/prices.csv"}, "cost-costs-prices"),
    ],
)
def test_a_question_has_a_folder_of_its_own(
    tmp_path: Path, asked: dict[str, object], name: str
) -> None:
    assert comparison_folder(compare_settings(tmp_path, **asked)).name == name


@pytest.mark.parametrize(
    ("sweep", "other"),
    [
        ("all", {}),
        ("test", {"part": "test"}),
        ("s-test", {"sweep": "s", "part": "test"}),
        ("mae", {"metric": "mae"}),
        ("s-mae", {"sweep": "s", "metric": "mae"}),
        ("data-digits", {"data": "digits"}),
        ("s-gap-0.02", {"sweep": "s", "gap": 0.02}),
        ("sweep-all", {"sweep": "all"}),
    ],
)
def test_a_sweep_has_no_folder_of_another_question(
    tmp_path: Path, sweep: str, other: dict[str, object]
) -> None:
    folders = [
        comparison_folder(compare_settings(tmp_path, **one)) for one in ({"sweep": sweep}, other)
    ]
    assert folders[0] != folders[1]


def test_other_runs_and_other_filters_are_other_questions(tmp_path: Path) -> None:
    asked = [{"runs": ["a", "b"]}, {"runs": ["a", "c"]}, {"filter": "x"}, {"filter": "y"}]
    folders = [comparison_folder(compare_settings(tmp_path, **one)) for one in asked]
    assert len(set(folders)) == 4
    again = comparison_folder(compare_settings(tmp_path, runs=["a", "b"]))
    assert again == folders[0] and again.name.startswith("runs-")


def test_two_ways_to_say_which_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runs and sweep each select runs to compare"):
        compare_settings(tmp_path, runs=["a"], sweep="s")
    with pytest.raises(ConfigError, match="sweep and filter each select"):
        compare_settings(tmp_path, sweep="s", filter="x")
    compare_settings(tmp_path, experiment="e", filter="x")


def mirrored(output_dir: Path, **asked: object) -> Path:
    settings = compare_settings(output_dir, **asked)
    folder = comparison_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with tracked_comparison(compared(settings), folder, settings) as tracker:
        (folder / "report.html").write_text("x")
        tracker.artifact(folder / "report.html")
    assert tracker.finish("FINISHED") is None
    return folder


def test_what_markdown_would_hide_is_shown_in_the_description(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 150)
    settings = compare_settings(tmp_path)
    folder = comparison_folder(settings)
    folder.mkdir(parents=True)
    whole = dataclasses.replace(compared(settings), remarks=("photos*of*cats <left> out.",))
    with tracked_comparison(whole, folder, settings) as tracker:
        pass
    tracker.finish("FINISHED")
    said = last_start(folder)["tags"]["mlflow.note.content"]
    assert r"photos\*of\*cats \<left\> out." in said


def test_the_comparison_is_a_run_with_the_verdict_and_the_report(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 150)
    folder = mirrored(tmp_path)
    start = last_start(folder)
    assert (
        start["run_name"] == "compare all"
        and start["experiment"] == f"bakeoff-{start['tags']['bakeoff.data']}"
    )
    assert start["tags"]["bakeoff.kind"] == "compare" and start["tags"]["bakeoff.winner"] == "cnn-0"
    assert "cnn-0 comes first of 2 candidates" in start["tags"]["mlflow.note.content"]
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


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (OSError("the disk is full"), "FAILED", "OSError: the disk is full"),
        (Interrupted(signal.SIGINT), "KILLED", "stopped by SIGINT"),
    ],
)
def test_a_report_that_cannot_be_written_is_how_the_run_ends(
    error: BaseException, status: str, reason: str, tmp_path: Path
) -> None:
    finished_run(tmp_path, "cnn", 10)
    settings = compare_settings(tmp_path)
    folder = comparison_folder(settings)
    with (
        pytest.raises(type(error)),
        tracked_comparison(compared(settings), folder, settings),
    ):
        raise error
    last = [event for event, _ in read_events(spool_path(folder))][-1]
    assert (last["status"], last["reason"]) == (status, reason)


def test_the_same_question_goes_on_with_the_same_run(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    first = last_start(mirrored(tmp_path))
    finished_run(tmp_path, "mlp", 5)
    second = last_start(mirrored(tmp_path))
    assert first["run_id"] == second["run_id"]
    assert second["tags"]["bakeoff.winner"] == "mlp-0"
    assert last_start(mirrored(tmp_path, data="pictures"))["run_id"] != first["run_id"]


def test_runs_that_nobody_tracks_are_not_tracked_by_comparing_them(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    asked = TrackingSwitch(enabled=True, uri=None)
    assert last_start(mirrored(tmp_path, tracking=asked))["mirrored"] is False
    assert not (tmp_path / "mlflow.db").exists()
