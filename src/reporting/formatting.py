"""Numbers, settings and tables as text."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from textwrap import TextWrapper
from typing import Any

from rich.cells import cell_len, set_cell_size

from ..machine.text import duration, fixed, percent
from ..metrics.registry import PRIMARY, unit_of
from ..metrics.summary import accuracy_name, metric_name

__all__ = [
    "JUDGED_BY",
    "Table",
    "below_each_other",
    "chance_text",
    "change_text",
    "code",
    "code_block",
    "count",
    "duration",
    "escaped",
    "figure_text",
    "gap_text",
    "is_percent",
    "mean_text",
    "metric_text",
    "one_line",
    "part_texts",
    "picture_name",
    "primary_text",
    "settings_text",
    "tick_text",
    "times_measured",
    "value_text",
]

# What runs are judged by, as plain names: each by the first of them that it measured. Accuracy is
# the last, as other kinds of targets have it as well.
JUDGED_BY = tuple(sorted(PRIMARY.values(), key="accuracy".__eq__))
# Figures of single classes, such as "test/recall/cat", that are written in percent.
_SHARES_OF_A_CLASS = ("recall", "average_precision", "iou")
_MOST_DECIMALS = 7  # below 0.0001, powers of ten are easier to read

_GAP = "  "
_JOINERS = "\u200c\u200d"  # of Persian and Indian scripts, and of emoji such as families
_LEAST_CELLS = 12  # cells that a column keeps, however narrow the terminal
# What Markdown would read as more than text, `|` included.
_MARKS = re.compile(r"([\\`*_\[\]<>|~#&])")


def count(number: int) -> str:
    """Return a count with its unit, as in "820", "68.3 K", "1.2 M" or "1.4 G"."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        # From where the smaller unit would round up to 1000.
        if number >= 0.99995 * size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def below_each_other(sentences: Iterable[str], width: int | None) -> str:
    """Return sentences below each other; with a width, which breaks no word, as a terminal does."""
    if width is None:
        return "\n".join(sentences)
    lines = TextWrapper(
        width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(map(lines.fill, sentences))


def times_measured(times: int) -> str:
    """Return how often the test part was measured, as in "once on this split"."""
    return "once on this split" if times == 1 else f"{times} times on this split"


def figure_text(metrics: Mapping[str, float], key: str) -> str | None:
    """Return a figure with its interval, as in "98.6 %  (95 % interval 97.1 to 99.4)".

    None where it was not measured, and alone without both ends.
    """
    value, low, high = (metrics.get(f"{key}{end}") for end in ("", "_low", "_high"))
    if value is None or low is None or high is None:
        return None if value is None else metric_text(key, value)
    ends = f"{fixed(100 * low, 1)} to {fixed(100 * high, 1)}"
    if not is_percent(key):
        ends = f"{metric_text(key, low)} to {metric_text(key, high)}"
    return f"{metric_text(key, value)}  (95 % interval {ends})"


def primary_text(metrics: Mapping[str, float], part: str) -> str | None:
    """Return what a part is judged by beside its accuracy: mean average precision, kappa or IoU.

    None for one class a picture, which is judged by its accuracy.
    """
    found = {name: metrics.get(f"{part}/{name}") for name in ("map", "macro_f1", "kappa", "mae")}
    if found["map"] is not None:
        f1 = "" if found["macro_f1"] is None else f", macro F1 {percent(found['macro_f1'])}"
        return f"mean average precision {percent(found['map'])}{f1}"
    if found["kappa"] is not None:
        mae = found["mae"]
        error = "" if mae is None else f", {metric_name('mae')} {mae:.2f} classes"
        return f"quadratic kappa {fixed(found['kappa'], 3)}{error}"
    mean = figure_text(metrics, f"{part}/miou")
    dice, right = metrics.get(f"{part}/dice"), metrics.get(f"{part}/pixel_accuracy")
    if mean is None or dice is None or right is None:
        return None
    return f"mean IoU {mean}, Dice {percent(dice)}, pixel accuracy {percent(right)}"


def part_texts(metrics: Mapping[str, float], part: str, name: str) -> dict[str, str | None]:
    """Return what a part is judged by, its accuracy and its AUC, by name; None for what is unknown.

    A cost is known where a sweep goes by one.
    """
    accuracy = accuracy_name(f"{part}/map" in metrics)
    return {
        f"{name} cost": figure_text(metrics, f"{part}/cost"),
        name: primary_text(metrics, part),
        f"{name} {accuracy}": figure_text(metrics, f"{part}/accuracy"),
        f"{name} AUC": figure_text(metrics, f"{part}/auc"),
    }


def chance_text(probability: float) -> str:
    """Return a probability in whole percent, 99 % at most: draws of a law show no certainty."""
    return percent(min(probability, 0.99), 0)


def is_percent(key: str) -> bool:
    """Return whether a metric is written in percent, and differences of it in points."""
    before, _, name = key.rpartition("/")
    return unit_of(name) == "percent" or before.rpartition("/")[2] in _SHARES_OF_A_CLASS


def metric_text(key: str, value: float | None) -> str:
    """Return a metric in the unit of its key: "98.6 %", "1.2 M", "1.33 ms", "0.05312" or "1,540".

    "none" where there is no value, and "NaN" or "infinite" where it is no number.
    """
    if value is None:
        return "none"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite"
    name = key.rpartition("/")[2]
    if is_percent(key):
        return percent(value)
    if key.startswith("cost/"):
        if name == "latency_ms":
            return f"{value:.3g} ms"
        if name.endswith("seconds"):
            return duration(value)
        return count(round(value))
    if _has_three_digits(key):  # 0.156 and 0.547, not 0.156 and 0.5469
        return fixed(value, 3)
    return _plain(value, _decimals(value))


def tick_text(key: str, value: float) -> str:
    """Return `metric_text` for ticks of an axis: "95 %" and "0.2", not "95.0 %" and "0.2000"."""
    if is_percent(key):
        return f"{100 * value + 0.0:.4g} %"
    text = metric_text(key, value)
    rounded = "." in text and not _has_three_digits(key) and not key.startswith("cost/")
    return text.rstrip("0").rstrip(".") if rounded else text


def mean_text(key: str, mean: float | None, spread: float | None) -> str:
    """Return mean and spread, as in "98.4 % ± 0.2"; without a spread the mean alone."""
    text = metric_text(key, mean)
    if mean is None or spread is None:
        return text
    if is_percent(key):
        return f"{text} ± {100 * spread:.1f}"
    if _has_three_digits(key):
        return f"{text} ± {spread:.3f}"
    return f"{text} ± {_plain(spread, _decimals(mean))}"


def gap_text(key: str, difference: float, digits: int = 1) -> str:
    """Return the size of a difference of a metric, as in "1.2 points" or "0.034".

    Args:
        digits: of points; kappa and AUC, of which 0.01 is a point, have two more.
    """
    if is_percent(key):
        return f"{fixed(100 * difference, digits)} points"
    if _has_three_digits(key):
        return fixed(difference, digits + 2)
    return _plain(difference, _decimals(difference, 2))


def change_text(key: str, difference: float, digits: int = 1) -> str:
    """Return a signed difference of a metric without its unit, as in "-1.2" or "+0.034".

    Args:
        digits: as of `gap_text`.
    """
    if is_percent(key):
        return fixed(100 * difference, digits, "+")
    if _has_three_digits(key):
        return fixed(difference, digits + 2, "+")
    return _plain(difference, _decimals(difference, 3), "+")


def _decimals(value: float, digits: int = 4) -> int:
    """Return after how many decimals a number ends that has so many significant digits."""
    if value == 0.0 or not math.isfinite(value):
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(value))))


def _plain(value: float, decimals: int, sign: str = "") -> str:
    """Return a number with so many decimals, zeros among them: figures below each other match.

    It has a comma between thousands, and as many decimals only where they are no string of zeros.
    """
    if decimals > _MOST_DECIMALS:
        return f"{value + 0.0:{sign}.3g}"
    return f"{round(value, decimals) + 0.0:{sign},.{decimals}f}"


def _has_three_digits(key: str) -> bool:
    return unit_of(key.rpartition("/")[2]) == "hundredths"


def value_text(value: Any) -> str:
    """Return a setting's value: numbers to six digits, text as it is, others as in JSON."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def settings_text(values: Mapping[str, Any]) -> str:
    """Return settings, as in "lr=0.003 width=32"; keys by their last part where it is unique."""
    ends = {key: key.rpartition(".")[2] for key in values}
    shared = Counter(ends.values())
    return " ".join(
        f"{ends[key] if shared[ends[key]] == 1 else key}={value_text(value)}"
        for key, value in values.items()
    )


def picture_name(path: str) -> str:
    """Return the last two parts of a path, which name class and file: "dress/0310.jpg"."""
    return "/".join(PurePath(path).parts[-2:])


def one_line(text: str) -> str:
    """Return the text with line breaks and control characters replaced by spaces.

    What joins letters and emoji, or keeps letters of a word from being joined, stays.
    """
    return " ".join("".join(c if c.isprintable() or c in _JOINERS else " " for c in text).split())


def escaped(text: str) -> str:
    """Return the text as one line with Markdown's marks escaped."""
    return _MARKS.sub(r"\\\1", one_line(text))


def code(text: str) -> str:
    """Return the text as one line of code in Markdown, whatever marks it has."""
    shown = one_line(text)
    fence = _fence(shown, 1)
    # A mark at an end would be one of the fence, and CommonMark takes a space from both ends.
    padding = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def code_block(text: str) -> str:
    """Return the text as a block of code in Markdown, whatever marks it has."""
    fence = _fence(text, 3)
    return f"{fence}\n{text}\n{fence}"


def _fence(text: str, least: int) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * (least if longest < least else longest + 1)


@dataclass(frozen=True)
class Table:
    """Rows of text under headers.

    Attributes:
        title: what it shows, in one line.
        headers: one a column.
        rows: cells of each, as many as there are headers; line breaks become spaces.
        numbers: indices of the columns that are aligned to the right.
        least: cells that the last column keeps, or else it is left out of more than two.

    Raises:
        ValueError: a row of another length.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    least: int = _LEAST_CELLS

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"{row} has {len(row)} cells for {len(self.headers)} headers.")

    def text(self, width: int) -> str:
        """Return title and aligned columns, `width` cells a line at most.

        The last column is cut, and others at half of the width; where that is not enough, the last
        ones are left out and named beside the title, which is wrapped. Two stay in any width.
        """
        lines = [tuple(map(one_line, row)) for row in (self.headers, *self.rows)]
        widths = [max(map(cell_len, column)) for column in zip(*lines)]
        widths[:-1] = [min(one, max(width // 2, _LEAST_CELLS)) for one in widths[:-1]]
        least, shown = [*widths[:-1], min(widths[-1], self.least)], len(widths)
        while shown > 2 and sum(least[:shown]) + len(_GAP) * shown > width:
            shown -= 1
        before = sum(widths[: shown - 1]) + len(_GAP) * shown
        widths = [*widths[: shown - 1], min(widths[shown - 1], max(width - before, _LEAST_CELLS))]
        hidden = ", ".join(lines[0][shown:])
        title = f"{self.title} (a wider terminal shows {hidden})" if hidden else self.title
        title = below_each_other([title], width)
        return "\n".join([title, *(self._line(line[:shown], widths) for line in lines)])

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        parts = []
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            room = width - cell_len(cell)
            if room < 0:
                parts.append(set_cell_size(cell, width - 1) + "…")
            else:
                padding = " " * room
                parts.append(padding + cell if column in self.numbers else cell + padding)
        return f"{_GAP}{_GAP.join(parts)}".rstrip()

    def markdown(self) -> str:
        """Return a heading of the third level and a pipe table in GitHub's Markdown."""
        rule = ["---:" if i in self.numbers else "---" for i in range(len(self.headers))]
        head, *rows = [map(escaped, row) for row in (self.headers, *self.rows)]
        lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]
        return "\n".join([f"### {escaped(self.title)}", "", *lines])
