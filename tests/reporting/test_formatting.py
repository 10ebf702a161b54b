from __future__ import annotations

import dataclasses
import math

import pytest
from rich.cells import cell_len

from src.reporting.formatting import (
    Table,
    below_each_other,
    chance_text,
    change_text,
    code,
    code_block,
    count,
    duration,
    escaped,
    figure_text,
    gap_text,
    mean_text,
    metric_text,
    one_line,
    primary_text,
    settings_text,
    tick_text,
    times_measured,
    value_text,
)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("val/accuracy", 0.98611, "98.6 %"),
        ("val/macro_f1", 1.0, "100.0 %"),
        ("test/recall/cat", 0.6667, "66.7 %"),
        ("val/loss", 0.0531249, "0.05312"),
        ("val/kappa", 0.15602, "0.156"),
        ("val/auc", 0.9, "0.900"),
        ("val/kappa", -2e-18, "0.000"),
        ("val/accuracy", -2e-18, "0.0 %"),
        ("val/loss", -0.0, "0"),
        ("val/loss", 0.5, "0.5000"),
        ("val/loss", 0.0000123, "1.23e-05"),
        ("val/cost", 634.55, "634.5"),
        ("val/cost", 12000.5, "12,000"),
        ("cost/parameters", 1_234_567.0, "1.2 M"),
        ("cost/latency_ms", 1.3344, "1.33 ms"),
        ("cost/training_seconds", 200.0, "3 min 20 s"),
        ("val/accuracy", math.nan, "NaN"),
        ("val/loss", math.inf, "infinite"),
        ("val/loss", None, "none"),
    ],
)
def test_metrics_by_what_they_are(key: str, value: float | None, text: str) -> None:
    assert metric_text(key, value) == text


def test_ticks_carry_no_zeros_but_zero_itself() -> None:
    ticks = {0.95: "95 %", 0.875: "87.5 %", 0.1: "10 %", 1.0: "100 %", 0.0: "0 %"}
    assert {value: tick_text("val/accuracy", value) for value in ticks} == ticks
    assert tick_text("val/loss", 0.2) == "0.2" and tick_text("val/auc", 0.2) == "0.200"
    assert tick_text("val/cost", 1500.0) == "1,500" and tick_text("cost/parameters", 10.0) == "10"
    assert tick_text("val/loss", -0.0) == "0" and tick_text("val/accuracy", -0.0) == "0 %"


def test_means_with_their_spread() -> None:
    assert mean_text("val/accuracy", 0.98, 0.0021) == "98.0 % ± 0.2"
    assert mean_text("val/loss", 0.05, 0.00123) == "0.05000 ± 0.00123"
    assert mean_text("val/kappa", 0.5469, 0.1) == "0.547 ± 0.100"
    assert mean_text("val/cost", 1315.2, 113.6) == "1,315 ± 114"
    assert mean_text("val/loss", 0.05, None) == "0.05000"
    assert mean_text("val/loss", None, None) == "none"


@pytest.mark.parametrize(
    ("key", "size", "signed"),
    [
        ("val/accuracy", "12.3 points", "+12.3"),
        ("val/kappa", "0.123", "+0.123"),
        ("kappa", "0.123", "+0.123"),
        ("log_loss", "0.12", "+0.123"),
    ],
)
def test_differences_have_the_digits_of_their_figures(key: str, size: str, signed: str) -> None:
    assert gap_text(key, 0.12345) == size and change_text(key, 0.12345) == signed
    assert gap_text("cost", 226.4) == "226" and change_text("cost", -1417.3) == "-1,417"
    assert gap_text("kappa", 0.12345, 2) == "0.1235" and gap_text("kappa", 0.5) == "0.500"


@pytest.mark.parametrize("key", ["val/accuracy", "val/kappa"])
def test_a_difference_that_is_rounded_to_nothing_has_no_minus(key: str) -> None:
    assert change_text(key, -1e-5).rstrip("0") == "+0."
    assert gap_text(key, -1e-5)[:3] == "0.0" and change_text("val/loss", -0.0) == "+0"
    assert primary_text({"val/kappa": -1e-5}, "val") == "quadratic kappa 0.000"
    low = {"val/accuracy": 0.0, "val/accuracy_low": -1e-9, "val/accuracy_high": 0.1}
    assert figure_text(low, "val/accuracy") == "0.0 %  (95 % interval 0.0 to 10.0)"


def test_settings_are_short_unless_that_is_ambiguous() -> None:
    values = {"optimizer.lr": 0.00301, "model.width": 32, "model.name": "x", "stem.width": None}
    text = "lr=0.00301 model.width=32 name=x stem.width=null"
    assert settings_text(values) == text


def test_values_read_as_on_a_command_line() -> None:
    assert [value_text(v) for v in (True, [1, 2], "sgd", 3, 1e-5)] == [
        *("true", "[1, 2]", "sgd", "3", "1e-05")
    ]


def test_control_characters_never_reach_a_terminal() -> None:
    persian, emoji = "\u0645\u06cc\u200c\u062e\u0648", "👩\u200d👧"  # each is one word
    assert one_line(f"{persian}\u202e {emoji}") == f"{persian} {emoji}"
    assert one_line("out of\nmemory \x1b[31mred\x07") == "out of memory [31mred"


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


def test_a_last_column_of_which_too_little_would_be_left_is_named_instead() -> None:
    settings = dataclasses.replace(TABLE, least=20)
    assert settings.text(32).splitlines()[2].endswith("lr=0.003 width=32 d…")
    assert settings.text(31).splitlines()[:3] == [
        "Trials (a wider terminal shows",
        "  settings)",
        "   n  name",
    ]


@pytest.mark.parametrize("width", [28, 30, 40, 100])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert all(cell_len(line) <= width for line in TABLE.text(width).splitlines())


WIDE = Table(
    "Candidates",
    ("rank", "candidate", "accuracy", "95 % interval", "settings"),
    (("1", "cnn-photos-20261129-030430-5a1421", "91.2 % ± 0.1", "84.4 to 95.3 %", "lr=0.003"),),
    frozenset({0}),
)


@pytest.mark.parametrize("width", [20, 40, 60, 72, 80, 90])
def test_a_narrow_terminal_has_fewer_columns_whose_names_are_said(width: int) -> None:
    *wrapped, headers, row = WIDE.text(width).splitlines()
    title = " ".join(line.strip() for line in wrapped)
    assert all(cell_len(line) <= width for line in wrapped)
    assert cell_len(headers) <= width or width == 20
    assert cell_len(row) <= width or width == 20
    missing = [name for name in WIDE.headers if name not in headers]
    said = f"Candidates (a wider terminal shows {', '.join(missing)})"
    assert title == (said if missing else "Candidates")
    assert ("84.4 to 95.3 %" in row) == ("95 % interval" not in missing) == (width >= 72)
    assert row.split()[1].startswith("cnn-photos")


def test_a_name_of_any_length_leaves_room_for_the_figures() -> None:
    long = Table(WIDE.title, WIDE.headers, (("1", "W" * 120, *WIDE.rows[0][2:]),))
    title, _, row = long.text(120).splitlines()
    assert title == "Candidates" and cell_len(row) <= 120
    assert "W…" in row and row.endswith("91.2 % ± 0.1  84.4 to 95.3 %  lr=0.003")


def test_markdown_is_escaped() -> None:
    assert TABLE.markdown().splitlines() == [
        "### Trials",
        "",
        "| n | name | settings |",
        "| ---: | --- | --- |",
        "| 1 | cnn | lr=0.003 width=32 depth=4 |",
        "| 12 | 图像 | a\\|b c\\* |",
    ]
    assert escaped("salt &amp; pepper") == "salt \\&amp; pepper"  # Markdown reads entities


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a/*b*", "`/a/*b*`"),
        ("/a/it`s", "``/a/it`s``"),
        ("/a/``b`` c", "```/a/``b`` c```"),
        ("`a`", "`` `a` ``"),
        ("two\nlines", "`two lines`"),
    ],
)
def test_code_ends_where_its_text_does_whatever_marks_that_has(text: str, shown: str) -> None:
    assert code(text) == shown


def test_a_block_of_code_has_a_longer_fence_than_its_text() -> None:
    assert code_block("a `b` ``c``") == "```\na `b` ``c``\n```"
    assert code_block("a\n````\nb") == "`````\na\n````\nb\n`````"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="has 1 cells for 2 headers"):
        Table("", ("a", "b"), (("1",),))


def test_durations_counts_and_measurements() -> None:
    durations = {
        0.04: "0.0 s", 9.94: "9.9 s", 9.96: "10 s", 59.4: "59 s", 59.6: "1 min 0 s",
        3599.4: "59 min 59 s", 3599.6: "1 h 0 min", 7530: "2 h 6 min", 200_000: "55 h 33 min",
    }  # fmt: skip
    assert {seconds: duration(seconds) for seconds in durations} == durations
    counts = {
        0: "0", 999: "999", 1000: "1.0 K", 68_349: "68.3 K", 999_949: "999.9 K", 999_950: "1.0 M",
        86_567_656: "86.6 M", 1_400_000_000: "1.4 G",
    }  # fmt: skip
    assert {number: count(number) for number in counts} == counts
    assert (times_measured(1), times_measured(3)) == ("once on this split", "3 times on this split")


def test_sentences_are_broken_between_words_where_a_width_is_given() -> None:
    said = ["one-two three four", "five"]
    assert below_each_other(said, None) == "one-two three four\nfive"
    assert below_each_other(said, 13) == "one-two three\n  four\nfive"
    assert below_each_other(["of some_long_name"], 6) == "of\n  some_long_name"


@pytest.mark.parametrize(
    ("probability", "text"), [(1.0, "99 %"), (0.996, "99 %"), (0.52, "52 %"), (0.0, "0 %")]
)
def test_no_probability_is_called_certain(probability: float, text: str) -> None:
    assert chance_text(probability) == text
