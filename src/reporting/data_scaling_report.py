"""How a figure grows with the training pictures, as text and as a picture."""

from __future__ import annotations

from typing import Literal

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from ..machine.text import counted, fixed, percent
from ..metrics.registry import RANKING
from ..metrics.summary import metric_name
from ..records.data_scaling import DataScalingRecord, ForecastRecord, MeasuredRecord
from .formatting import Table, below_each_other, gap_text, is_percent, metric_text
from .style import ACCENT, ACCENT_SOFT, INK, MUTED, in_percent, new_figure, tidy

__all__ = ["format_scaling", "scaling_figure", "scaling_sentences"]

_TIMES = {2.0: "Twice", 3.0: "Three times", 4.0: "Four times"}


def format_scaling(record: DataScalingRecord, width: int, *, wrapped: bool = False) -> str:
    """Return the table and the sentences of a forecast, without a final line break.

    Args:
        width: cells of a line of the table, and of each line where sentences are `wrapped`.
    """
    sentences = below_each_other(scaling_sentences(record), width if wrapped else None)
    return "\n".join([_table(record).text(width), "", sentences])


def scaling_sentences(record: DataScalingRecord) -> list[str]:
    """Return what more training pictures would bring, in sentences."""
    now = record.measured[-1]
    sentences = [_gain_sentence(record, one) for one in record.forecasts]
    # Else the forecasts of the table would seem to contradict the gains.
    if record.forecasts and _text(record, record.fitted) != _text(record, now.figure):
        sentences.append(
            f"Gains count from the fitted curve, which has {_text(record, record.fitted)} at "
            f"{now.pictures:,} pictures; measured are {_text(record, now.figure)}."
        )
    if record.goal is not None:
        sentences.append(_goal_sentence(record))
    stays = "the settings stay"
    if record.epochs is not None:
        stays = "as many steps of training"
        sentences.append(
            f"Trained for {counted(record.epochs, 'epoch')}, it may not have learnt all that its "
            "pictures show: more epochs, or as many on more pictures, which are more steps, may "
            "bring more than is forecast."
        )
    return [
        *sentences,
        f"Assumed: further pictures are like the {now.pictures:,} there are, labelled as well, and "
        f"{stays}; a forecast is the less sure the farther it goes.",
    ]


def _table(record: DataScalingRecord) -> Table:
    held_out = "validation" if record.part == "val" else "held-out"
    named: list[tuple[MeasuredRecord | ForecastRecord, str]]
    named = [(one, one.run) for one in record.measured]
    named += [(one, "forecast") for one in record.forecasts]
    rows = [
        (f"{one.pictures:,}", _text(record, one.figure), _ends(record, one.low, one.high), run)
        for one, run in named
    ]
    return Table(
        f"{_name(record)} on {record.held_out:,} {held_out} pictures",
        ("training pictures", _name(record), "95 % interval", "run"),
        tuple(rows),
        frozenset(range(3)),
    )


def _gain_sentence(record: DataScalingRecord, one: ForecastRecord) -> str:
    factor = one.pictures / record.measured[-1].pictures
    times = _TIMES.get(round(factor, 2), f"{factor:.3g} times")
    change = "raise" if RANKING[record.metric].higher_is_better else "lower"
    key = record.metric
    ends = f"{_size(key, one.gain_low)} to {gap_text(key, one.gain_high)}"
    return (
        f"{times} as many training pictures ({one.pictures:,}) would {change} the {_name(record)} "
        f"by {gap_text(key, one.gain)} (95 % interval {ends})."
    )


def _size(key: str, difference: float) -> str:
    """Return the size of a difference without its unit."""
    return gap_text(key, difference).removesuffix(" points")


def _goal_sentence(record: DataScalingRecord) -> str:
    now, goal = record.measured[-1], _text(record, record.goal or 0.0)
    if record.needed is None:
        least = "" if record.needed_low is None else f", at best {record.needed_low:,}"
        return f"{goal} would take more than {record.most:,} training pictures{least}."
    most = f"more than {record.most:,}" if record.needed_high is None else f"{record.needed_high:,}"
    if record.needed <= now.pictures:
        return f"{goal} is reached by these {now.pictures:,} (95 % interval up to {most})."
    return (
        f"{goal} would take some {record.needed:,} training pictures (95 % interval "
        f"{record.needed_low:,} to {most})."
    )


def _name(record: DataScalingRecord) -> str:
    return metric_name(record.metric, sets=record.sets)


def _text(record: DataScalingRecord, value: float) -> str:
    return metric_text(record.metric, value)


def _ends(record: DataScalingRecord, low: float, high: float) -> str:
    if is_percent(record.metric):
        return f"{fixed(100 * low, 1)} to {percent(high)}"
    return f"{metric_text(record.metric, low)} to {metric_text(record.metric, high)}"


def scaling_figure(record: DataScalingRecord) -> Figure:
    """Draw measured figures and forecasts with their intervals over the number of pictures."""
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    counts = [one.pictures for one in record.measured]
    values = [one.figure for one in record.measured]
    spans = [[v - one.low for v, one in zip(values, record.measured)]]
    spans.append([one.high - v for v, one in zip(values, record.measured)])
    axes.errorbar(counts, values, spans, color=ACCENT, marker="o", ms=5, lw=1.8, label="measured")
    if record.forecasts:
        now = record.measured[-1]
        ahead = [now.pictures, *(one.pictures for one in record.forecasts)]
        low = [now.low, *(one.low for one in record.forecasts)]
        high = [now.high, *(one.high for one in record.forecasts)]
        middle = [now.figure, *(one.figure for one in record.forecasts)]
        axes.fill_between(ahead, low, high, color=ACCENT_SOFT, alpha=0.4, lw=0)
        axes.plot(
            ahead, middle, color=ACCENT, ls="--", marker="o", ms=5, mfc="white", label="forecast"
        )
    if record.goal is not None:
        axes.axhline(record.goal, color=MUTED, lw=1.0, ls=":", label="goal")
    axes.set_xscale("log", base=2)
    ticks = [*counts, *(one.pictures for one in record.forecasts)]
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(value):,}"))
    tidy(
        axes,
        title=f"{_name(record)} by the number of training pictures",
        x="training pictures",
        grid="both",
    )
    if is_percent(record.metric):
        in_percent(axes.yaxis)
    place: Literal["upper left", "upper right"]
    place = "upper left" if RANKING[record.metric].higher_is_better else "upper right"
    axes.legend(loc=place, frameon=False, fontsize=9, labelcolor=INK)
    return figure
