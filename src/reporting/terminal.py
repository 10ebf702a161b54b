"""The few lines that a person sees when a run is over."""

from __future__ import annotations

from src.metrics.summary import metric_key
from src.records import RunSummary

__all__ = ["format_summary"]

_ENDINGS = {"FINISHED": "finished in", "FAILED": "failed after", "KILLED": "stopped after"}


def format_summary(summary: RunSummary, ui_command: str) -> str:
    """A run in a dozen aligned lines of plain text, without a final line break.

    What the summary does not hold, such as a test accuracy that nobody measured, has no line.

    Args:
        summary: of any status.
        ui_command: what to type to open the tracking UI.
    """
    lines = [
        f"{summary.name}: {summary.model} on {summary.data}, seed {summary.seed}, "
        f"{_ENDINGS[summary.status]} {_duration(summary.duration_seconds)}"
    ]
    latency = summary.metrics.get(metric_key("cost", "latency_ms"))
    rows = {
        "reason": summary.reason,
        "validation accuracy": _accuracy(summary, "val"),
        "test accuracy": _accuracy(summary, "test"),
        "test part measured": _times(summary.test_measurements),
        "parameters": _count(summary.num_parameters),
        "latency": None if latency is None else f"{latency:.3g} ms for one picture",
        "run folder": summary.run_dir,
        "open the UI": ui_command,
    }
    shown = {name: text for name, text in rows.items() if text is not None}
    width = max(map(len, shown))
    return "\n".join([*lines, "", *(f"  {name:<{width}}  {shown[name]}" for name in shown)])


def _accuracy(summary: RunSummary, split: str) -> str | None:
    """As in "98.6 %  (95 % interval 97.1 to 99.4)", or None where it was not measured."""
    value, low, high = (
        summary.metrics.get(metric_key(split, name))
        for name in ("accuracy", "accuracy_low", "accuracy_high")
    )
    if value is None:
        return None
    text = f"{100 * value:.1f} %"
    if low is None or high is None:
        return text
    return f"{text}  (95 % interval {100 * low:.1f} to {100 * high:.1f})"


def _times(count: int | None) -> str | None:
    if count is None:
        return None
    return "once on this split" if count == 1 else f"{count} times on this split"


def _duration(seconds: float) -> str:
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


def _count(number: int | None) -> str | None:
    """As in "820", "68.3 K", "1.2 M" or "1.4 G"."""
    if number is None:
        return None
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        # From where the smaller unit would round up to 1000.
        if number >= 0.99995 * size:
            return f"{number / size:.1f}{unit}"
    return str(number)
