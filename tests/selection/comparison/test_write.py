from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.compare import compare
from src.config.checks import ConfigError
from src.selection.comparison import compared
from src.selection.comparison.write import comparison_folder, write_comparison
from tests.selection.comparison.runs import compare_settings, finished_run


def test_a_comparison_leaves_tables_a_page_and_pictures(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 20)
    asked = compare_settings(tmp_path)
    old = comparison_folder(asked) / "figures" / "importance.png"
    old.parent.mkdir(parents=True)
    old.touch()
    files = list(write_comparison(compared(asked), asked))
    assert all(path.is_file() for path in files) and not old.exists()
    folder = tmp_path / "compare" / "all"
    assert {path.parent for path in files} == {folder, folder / "figures"}
    names = [path.name for path in files]
    assert names[:3] == ["leaderboard.json", "leaderboard.csv", "report.html"]
    assert json.loads(files[0].read_text())["winner"] == "cnn"
    assert "cnn comes first of 2 candidates" in files[2].read_text()
    assert "confusion_2.png" in names and "disagreements.png" not in names


def test_a_place_that_cannot_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 20)
    (tmp_path / "compare").write_text("a file where a folder should be")
    with pytest.raises(ConfigError, match=r"^output_dir: .*/compare.* cannot be written: "):
        compare(compare_settings(tmp_path), [])


def test_figures_stay_until_others_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path, "cnn", 10)
    finished_run(tmp_path, "mlp", 20)
    asked = compare_settings(tmp_path)
    before = [path.read_bytes() for path in write_comparison(compared(asked), asked)]

    def full(path: Path) -> None:
        if path.suffix == ".png":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("src.storage.files._flush", full)
    with pytest.raises(OSError, match="No space left"):
        list(write_comparison(compared(asked), asked))
    after = [path.read_bytes() for path in (tmp_path / "compare").rglob("*.*") if path.is_file()]
    assert sorted(after) == sorted(before)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "all"),
        ({"sweep": "s"}, "s"),
        ({"data": "digits", "part": "test"}, "digits-test"),
        ({"experiment": "my runs/1"}, "my_runs_1"),
    ],
)
def test_a_question_has_a_folder_of_its_own(
    tmp_path: Path, asked: dict[str, object], name: str
) -> None:
    assert comparison_folder(compare_settings(tmp_path, **asked)).name == name


def test_other_runs_and_other_filters_are_other_questions(tmp_path: Path) -> None:
    asked = [{"runs": ["a", "b"]}, {"runs": ["a", "c"]}, {"filter": "x"}, {"filter": "y"}]
    folders = [comparison_folder(compare_settings(tmp_path, **one)) for one in asked]
    assert len(set(folders)) == 4
    again = comparison_folder(compare_settings(tmp_path, runs=["a", "b"]))
    assert again == folders[0] and again.name.startswith("runs-")


def test_two_ways_to_say_which_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="runs and sweep each say which runs to compare"):
        compare_settings(tmp_path, runs=["a"], sweep="s")
    with pytest.raises(ConfigError, match="sweep and filter each say"):
        compare_settings(tmp_path, sweep="s", filter="x")
    compare_settings(tmp_path, experiment="e", filter="x")
