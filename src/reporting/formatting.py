"""Amounts as people read them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = [
    "count",
    "duration",
    "mean_text",
    "measured",
    "metric_text",
    "one_line",
    "settings_text",
    "share_with_interval",
    "tick_text",
    "value_text",
]

# By the last part of their key: metrics in [0, 1] that read best as a percentage.
_SHARES = (
    "accuracy",
    "balanced_accuracy",
    "calibration_error",
    "macro_f1",
    "top5_accuracy",
)


def duration(seconds: float) -> str:
    """As in "8.4 s", "42 s", "3 min 20 s" or "2 h 5 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int) -> str:
    """As in "820", "68.3 K", "1.2 M" or "1.4 G"."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        # From where the smaller unit would round up to 1000.
        if number >= 0.99995 * size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def share_with_interval(value: float, low: float | None, high: float | None) -> str:
    """As in "98.6 %  (95 % interval 97.1 to 99.4)"; without an end, the share alone."""
    text = f"{100 * value:.1f} %"
    if low is None or high is None:
        return text
    return f"{text}  (95 % interval {100 * low:.1f} to {100 * high:.1f})"


def measured(times: int) -> str:
    """How often the test part was measured."""
    return "once on this split" if times == 1 else f"{times} times on this split"


def metric_text(key: str, value: float | None) -> str:
    """A metric by what its key says it is: "98.61 %", "1.2 M", "1.33 ms" or "0.05312".

    "none" where there is no value, and "NaN" or "infinite" where it is no number.
    """
    if value is None:
        return "none"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite"
    name = key.rpartition("/")[2]
    if name in _SHARES:
        return f"{100 * value:.2f} %"
    if key.startswith("cost/"):
        if name == "latency_ms":
            return f"{value:.3g} ms"
        if name.endswith("seconds"):
            return duration(value)
        return count(round(value))
    return f"{value:.4g}"


def tick_text(key: str, value: float) -> str:
    """`metric_text` for the ticks of an axis: "95 %", not "95.00 %"."""
    return re.sub(r"\.?0+ %$", " %", metric_text(key, value))


def mean_text(key: str, mean: float | None, spread: float | None) -> str:
    """As in "98.42 % ± 0.21"; the mean alone where there is no spread."""
    text = metric_text(key, mean)
    if mean is None or spread is None:
        return text
    of_share = key.rpartition("/")[2] in _SHARES
    return f"{text} ± {100 * spread:.2f}" if of_share else f"{text} ± {spread:.2g}"


def value_text(value: Any) -> str:
    """A setting's value: numbers to six digits, text as it is, others as in JSON."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def settings_text(values: Mapping[str, Any]) -> str:
    """As in "lr=0.003 width=32"; keys by their last part where that tells them apart."""
    ends = {key: key.rpartition(".")[2] for key in values}
    shared = Counter(ends.values())
    return " ".join(
        f"{ends[key] if shared[ends[key]] == 1 else key}={value_text(value)}"
        for key, value in values.items()
    )


def one_line(text: str) -> str:
    """The text with its line breaks and control characters replaced by spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
