"""The few lines that a person sees when a run is over."""

from __future__ import annotations

from collections.abc import Callable

from src.machine.text import visible
from src.metrics.summary import metric_key
from src.records.run import RunSummary
from src.reporting.formatting import count, duration, measured, share_with_interval

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
        f"{_ENDINGS[summary.status]} {duration(summary.duration_seconds)}"
    ]
    latency = summary.metrics.get(metric_key("cost", "latency_ms"))
    rows = {
        "reason": summary.reason,
        "validation accuracy": _accuracy(summary, "val"),
        "over folds": _over_folds(summary),
        "test accuracy": _accuracy(summary, "test"),
        "test part measured": _told(measured, summary.test_measurements),
        "parameters": _told(count, summary.num_parameters),
        "latency": None if latency is None else f"{latency:.3g} ms for one picture",
        "run folder": summary.run_dir,
        "open the UI": ui_command,
    }
    shown = {name: visible(text) for name, text in rows.items() if text is not None}
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
    return share_with_interval(value, low, high)


def _over_folds(summary: RunSummary) -> str | None:
    """The spread of the folds' accuracies, as in "5 folds, 97.1 to 98.9 %, standard deviation 0.8
    points"; None for a run of its own."""
    values = (summary.folds or {}).get(metric_key("val", "accuracy"))
    deviation = summary.metrics.get(metric_key("val", "accuracy_sd"))
    if not values or deviation is None:
        return None
    return (
        f"{len(values)} folds, {100 * min(values):.1f} to {100 * max(values):.1f} %, "
        f"standard deviation {100 * deviation:.1f} points"
    )


def _told(text: Callable[[int], str], number: int | None) -> str | None:
    return None if number is None else text(number)
