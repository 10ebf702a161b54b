"""Text for the terminal: a finished run, a combination, pretrained networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.cells import cell_len

from ..machine.package import typed
from ..machine.text import visible
from ..metrics.summary import metric_key, metric_name, safe_class_names
from ..records.combination import Combination
from ..records.run import RunSummary
from .formatting import (
    JUDGED_BY,
    Table,
    change_text,
    count,
    duration,
    figure_text,
    gap_text,
    is_percent,
    metric_text,
    part_texts,
    times_measured,
)

__all__ = ["format_combination", "format_metrics", "format_summary", "format_weights"]

# Cells of a name that the values beside all names give way to.
_LONGEST_NAME = 40
_ENDINGS = {"FINISHED": "finished in", "FAILED": "failed after", "KILLED": "stopped after"}
_HEADERS = ("model", "model.name", "from", "pixels", "params", "top-1", "licence")
_ELSEWHERE = (
    "Fetch others of timm or torchvision from the hub, which races then rank as well:\n"
    "  python -m src.weights fetch=suggested\n"
    "  python -m src.weights fetch=[NAME]"
)


def format_summary(summary: RunSummary, ui_command: str, measured_with: str | None = None) -> str:
    """Return a run in a dozen aligned lines, without a final line break.

    Values that the summary does not hold, such as a test accuracy, have no line.

    Args:
        summary: of the run.
        ui_command: shows the run in MLflow.
        measured_with: how the accuracies differ from those that the epochs showed, if they do.
    """
    lines = [
        f"{summary.name}: {summary.model} on {summary.data}, seed {summary.seed}, "
        f"{_ENDINGS[summary.status]} {duration(summary.duration_seconds)}"
    ]
    latency = summary.metrics.get(metric_key("cost", "latency_ms"))
    times = summary.test_measurements
    disturbed = metric_key("cost", "latency_others") in summary.metrics
    beside = " (measured under load)" if disturbed else ""
    rows = {
        "reason": summary.reason,
        **part_texts(summary.metrics, "val", "validation"),
        "over folds": _over_folds(summary),
        **part_texts(summary.metrics, "test", "test"),
        "measured with": measured_with if summary.metrics else None,
        "test part measured": None if times is None else times_measured(times),
        "parameters": None if summary.num_parameters is None else count(summary.num_parameters),
        "latency": None if latency is None else f"{latency:.3g} ms for one picture{beside}",
        "run folder": summary.run_dir,
        "open the UI": ui_command,
    }
    shown = [(name, visible(text)) for name, text in rows.items() if text is not None]
    return "\n".join([*lines, "", *(f"  {line}" for line in _aligned(shown))])


def format_metrics(metrics: Mapping[str, float], split: str, class_names: Sequence[str]) -> str:
    """Return the figures of one part in aligned lines, with intervals and classes by their names.

    Args:
        metrics: by `{split}/{metric}`, of this part alone.
        split: "train", "val" or "test".
        class_names: in the order of the classes.
    """
    prefix = metric_key(split, "")
    ends = {f"{key}{end}" for key in metrics for end in ("_low", "_high")}
    sets = metric_key(split, "map") in metrics
    names = dict(zip(safe_class_names(class_names), class_names, strict=True))
    rows = []
    for key in metrics:
        figure = None if key in ends else figure_text(metrics, key)
        if figure is not None:  # an end of an interval is printed beside its figure
            name, slash, safe_name = key.removeprefix(prefix).partition("/")
            plain = metric_name(name, sets=sets)
            of_class = f" of {visible(names.get(safe_name, safe_name))}" if slash else ""
            rows.append((f"{plain}{of_class}", figure))
    return "\n".join(_aligned(rows))


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Return lines of names and values, which begin in one column unless names are very long."""
    width = max(
        (cells for name, _ in rows if (cells := cell_len(name)) <= _LONGEST_NAME), default=0
    )
    return [f"{name}{' ' * (width - cell_len(name))}  {value}" for name, value in rows]


def _over_folds(summary: RunSummary) -> str | None:
    """Return, as in "5 folds, 97.1 to 98.9 %, standard deviation 0.8 points", where there are.

    It is about what the run is judged by, which is named unless it is the accuracy.
    """
    folds = summary.folds or {}
    judged_by = next((one for one in JUDGED_BY if metric_key("val", one) in folds), "accuracy")
    key = metric_key("val", judged_by)
    values, deviation = folds.get(key), summary.metrics.get(f"{key}_sd")
    if not values or deviation is None:
        return None
    low, high = (metric_text(key, end) for end in (min(values), max(values)))
    name = "" if judged_by == "accuracy" else f"{metric_name(judged_by)} "
    return (
        f"{len(values)} folds, {name}{low.removesuffix(' %')} to {high}, "
        f"standard deviation {gap_text(key, deviation)}"
    )


def format_combination(
    found: Combination, figures: Sequence[float], milliseconds: Sequence[float]
) -> str:
    """Return the members by weight, and what the combination gains and costs.

    Args:
        found: with M members.
        figures: M, of the members on the validation part, by the measure of the combination.
        milliseconds: M, latency of the members for one picture.
    """
    used = [i for i in np.argsort(-found.weights, kind="stable").tolist() if found.weights[i]]
    measure = found.measure
    rows = tuple(
        (
            *(f"{found.weights[i]:.3f}", metric_text(measure, figures[i])),
            *(f"{milliseconds[i]:.3g}", found.members[i]),
        )
        for i in used
    )
    headers = ("weight", metric_name(measure), "ms", "run")
    table = Table(f"Members, by {found.way}", headers, rows, frozenset({0, 1, 2}))
    gain = found.figure - found.best_figure
    mixture = "mean of the weights" if found.way == "soup" else "combination"
    points = f"{change_text(measure, gain)}{' points' * is_percent(measure)}"
    test = "McNemar's exact test" if measure == "accuracy" else "Student's test"
    alone = milliseconds[found.members.index(found.best)]
    together = sum(milliseconds[i] for i in used)
    latency = (
        f"It is one network, and takes as long as one of them: {alone:.3g} ms for a picture."
        if found.way == "soup"
        else f"One picture takes its members {together:.3g} ms, one after another; the best alone "
        f"takes {alone:.3g} ms."
    )
    return "\n".join(
        [
            table.text(100),
            f"The {mixture} of {len(used)} of {len(found.members)} trained models has "
            f"{metric_name(measure)} {metric_text(measure, found.figure)} on held-out pictures, "
            "and the best single model "
            f"{metric_text(measure, found.best_figure)} ({points}; {test} of these two alone on "
            f"the same pictures: p = {found.p_value:.2g}).",
            "The single model was selected on the same pictures as the combination; on all of "
            f"them it is {found.best}.",
            latency,
        ]
    )


def format_weights(networks: Sequence[Mapping[str, Any]], width: int) -> str:
    """Return pretrained networks as a table, and how they are named on a command line.

    Args:
        networks: the fields of `src.models.weights.Published`, one a row.
        width: cells of a line; the last column is cut where a line would be longer.
    """
    if not networks:
        return f"This machine can load no pretrained network without a connection.\n{_ELSEWHERE}"
    table = Table(
        "Pretrained networks that load here without a connection",
        _HEADERS,
        tuple(_network_cells(one) for one in networks),
        frozenset({3, 4, 5}),
    )
    first = networks[0]
    lines = [
        table.text(width),
        "",
        "pixels: side that model.input_size=null resizes to; top-1: published, on ImageNet-1k",
        "",
        "Train one:",
        f"  python -m src.train model={first['library']} model.name={first['name']} "
        "model.pretrained=true",
    ]
    of_timm = next((one["name"] for one in networks if one["library"] == "timm"), None)
    if of_timm is not None:
        lines += [
            "Take its features as they are, under a classical classifier:",
            f"  python -m src.train model=embedding model.networks=[{of_timm}] "
            "model.pretrained=true",
        ]
    return typed("\n".join([*lines, _ELSEWHERE]))


def _network_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    source = one["source"].replace("hugging face", "hub")  # or long names would not fit in a line
    size, accuracy = one["input_size"], one["accuracy"]
    return (
        *(one["library"], one["name"], source, "-" if size is None else str(size)),
        *(count(one["parameters"]), "-" if accuracy is None else f"{accuracy:.1f} %"),
        one["licence"] or "-",
    )
