from __future__ import annotations

import math

import pytest

from src.reporting.formatting import (
    mean_text,
    metric_text,
    one_line,
    settings_text,
    tick_text,
    value_text,
)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("val/accuracy", 0.98611, "98.61 %"),
        ("val/macro_f1", 1.0, "100.00 %"),
        ("val/loss", 0.0531249, "0.05312"),
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


@pytest.mark.parametrize(
    ("value", "text"), [(0.95, "95 %"), (0.875, "87.5 %"), (0.1, "10 %"), (1.0, "100 %")]
)
def test_ticks_carry_no_zeros(value: float, text: str) -> None:
    assert tick_text("val/accuracy", value) == text


def test_zero_keeps_its_zero() -> None:
    assert tick_text("val/accuracy", 0.0) == "0 %"
    assert tick_text("val/loss", 0.0) == "0"


def test_means_with_their_spread() -> None:
    assert mean_text("val/accuracy", 0.98, 0.0021) == "98.00 % ± 0.21"
    assert mean_text("val/loss", 0.05, 0.00123) == "0.05 ± 0.0012"
    assert mean_text("val/loss", 0.05, None) == "0.05"
    assert mean_text("val/loss", None, None) == "none"


def test_settings_are_short_unless_that_is_ambiguous() -> None:
    values = {"optimizer.lr": 0.00301, "model.width": 32, "model.name": "x", "stem.width": None}
    text = "lr=0.00301 model.width=32 name=x stem.width=null"
    assert settings_text(values) == text


def test_values_read_as_on_a_command_line() -> None:
    assert [value_text(v) for v in (True, [1, 2], "sgd", 3, 1e-5)] == [
        *("true", "[1, 2]", "sgd", "3", "1e-05")
    ]


def test_control_characters_never_reach_a_terminal() -> None:
    assert one_line("out of\nmemory \x1b[31mred\x07") == "out of memory [31mred"
