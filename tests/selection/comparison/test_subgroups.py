from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from src.config.checks import ConfigError
from src.config.compose import read_run_settings
from src.data.sources.listing import list_pictures
from src.data.sources.table import list_table
from src.metrics.share_intervals import score_interval
from src.selection.comparison.subgroups import subgroup_scores, subgroup_values
from tests.selection.comparison.test_report import run_on

CAMERAS = ["phone", "scanner", "phone", "phone", "scanner", "phone"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = ["camera,path,label"]
    for index, camera in enumerate(CAMERAS):
        pixels = np.full((8, 8), 40 * index, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        lines.append(f"{camera},{index}.png,{'ab'[index % 2]}")
    file = tmp_path / "set.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_each_picture_has_what_its_line_says_though_lines_move(tmp_path: Path, table: Path) -> None:
    run = run_on(tmp_path, list_table(table), ["data=folder", f"data.root={table}"])
    ids = np.array([4, 0, 3])
    assert subgroup_values(run, "Camera", ids) == ("scanner", "phone", "phone")
    header, *lines = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert subgroup_values(run, "camera", ids) == ("scanner", "phone", "phone")


def test_pages_have_what_the_line_of_their_file_says(tmp_path: Path, table: Path) -> None:
    for index in range(6):
        pages = [Image.fromarray(np.full((8, 8), 40 * index + n, np.uint8)) for n in range(2)]
        pages[0].save(tmp_path / f"{index}.tif", save_all=True, append_images=pages[1:])
    table.write_text(table.read_text().replace(".png", ".tif"))
    overrides = ["data=folder", f"data.root={table}", "data.pages=all"]
    run = run_on(tmp_path, list_pictures(read_run_settings(overrides).data), overrides)
    assert subgroup_values(run, "camera", np.array([0, 1, 2, 3, 8])) == (
        *("phone", "phone", "scanner", "scanner", "scanner"),
    )


def test_a_table_at_an_address_is_read_where_it_was_fetched_to(tmp_path: Path, table: Path) -> None:
    memory = fsspec.filesystem("memory")
    for file in tmp_path.iterdir():
        memory.pipe_file(f"/subgroups/{file.name}", file.read_bytes())
    overrides = ["data=folder", "data.root=memory://subgroups/set.csv"]
    overrides += [f"data.cache_dir={tmp_path / 'cache'}"]
    run = run_on(tmp_path, list_pictures(read_run_settings(overrides).data), overrides)
    memory.rm("/subgroups", recursive=True)
    assert subgroup_values(run, "camera", np.array([4, 0])) == ("scanner", "phone")


@pytest.mark.parametrize(
    ("column", "old", "new", "said"),
    [
        ("kamera", "", "", "which has camera, path, label .did you mean camera"),
        ("camera", "scanner,4.png", ",4.png", "line 6: group is empty"),
        ("camera", "phone,3.png,b\n", "", "no longer names the pictures"),
    ],
)
def test_what_it_cannot_say_is_refused(
    tmp_path: Path, table: Path, column: str, old: str, new: str, said: str
) -> None:
    run = run_on(tmp_path, list_table(table), ["data=folder", f"data.root={table}"])
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=said):
        subgroup_values(run, column, np.arange(6))


def test_pictures_that_no_table_names_have_no_subgroups(tmp_path: Path, table: Path) -> None:
    run = run_on(tmp_path, list_table(table), ["data=folder", f"data.root={tmp_path}"])
    with pytest.raises(ConfigError, match="come from no CSV file"):
        subgroup_values(run, "camera", np.arange(6))


def test_a_subgroup_has_wilsons_interval_of_its_own_pictures_the_least_right_first() -> None:
    right = np.array([[True, False, True, True, True, True, True]])
    first, second, alone = subgroup_scores(right, [*CAMERAS, "unknown"][:7], None)
    assert (first.shown, first.pictures, first.accuracy) == ("scanner", 2, 0.5)
    assert (second.shown, second.pictures, second.accuracy) == ("phone", 4, 1.0)
    assert first.interval is not None and alone.interval is None
    assert (first.interval.low, first.interval.high) == pytest.approx(
        score_interval(0.5, 2, 1.96), abs=1e-3
    )
    (grouped, *_) = subgroup_scores(right[:, :6], ["x"] * 6, np.array([0, 0, 1, 1, 2, 2]))
    (plain, *_) = subgroup_scores(right[:, :6], ["x"] * 6, None)
    assert grouped.interval is not None and plain.interval is not None
    assert grouped.interval.low < plain.interval.low
