from __future__ import annotations

import pytest
from rich.cells import cell_len

from src.reporting.tables import Table

TABLE = Table(
    "Trials", ("n", "name", "settings"),
    (("1", "cnn", "lr=0.003 width=32 depth=4"), ("12", "图像", "a|b\nc*")),
    frozenset({0}),
)  # fmt: skip


def test_columns_are_aligned_and_the_last_is_cut() -> None:
    assert TABLE.text(30).splitlines() == [
        "Trials",
        "   n  name  settings",
        "   1  cnn   lr=0.003 width=32…",
        "  12  图像  a|b c*",
    ]
    assert TABLE.text(200).splitlines()[2].endswith("depth=4")


@pytest.mark.parametrize("width", [28, 30, 40, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert all(cell_len(line) <= width for line in TABLE.text(width).splitlines())


def test_markdown_is_escaped() -> None:
    assert TABLE.markdown().splitlines() == [
        "## Trials",
        "",
        "| n | name | settings |",
        "| ---: | --- | --- |",
        "| 1 | cnn | lr=0.003 width=32 depth=4 |",
        "| 12 | 图像 | a\\|b c\\* |",
    ]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 cells for 2 headers"):
        Table("", ("a", "b"), (("1",),))
