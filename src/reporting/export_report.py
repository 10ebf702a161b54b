"""Exported variants of a model as text: on the terminal, and in a model card."""

from __future__ import annotations

import re
import shutil

from ..machine.text import counted, fixed, percent
from ..metrics.share_intervals import wilson_interval
from ..metrics.summary import metric_name
from ..records.export import ExportRecord, VariantRecord
from .formatting import Table, change_text, metric_text

__all__ = ["EXPORTED", "exported_lines", "format_export", "with_exported"]

# The section of a model card, and the one that it stands before.
EXPORTED, _NEXT = "Exported variants", "Ethical considerations"
# Column of how many answers are the original's.
_EQUAL_LABELS, _EQUAL_PIXELS = "equal labels", "equal pixels"
# Of equal labels the last tenth of a percent decides.
_DIGITS = 2
_LEAST_WIDTH = 140


def format_export(record: ExportRecord, run: str, label: str, serving: str | None) -> str:
    """Return the variants of an export, without a final line break.

    Args:
        record: of the export.
        run: name of the run on the command line.
        label: the command that labels pictures with the chosen variant.
        serving: the command that serves the chosen variant, or None.
    """
    lines = [_table(record, run).text(max(shutil.get_terminal_size().columns, _LEAST_WIDTH)), ""]
    lines += [f"{name} is not available: {reason}" for name, reason in record.missing.items()]
    lines += [_recommendation(record)]
    if record.chosen is not None:
        lines += [f"predict with it: {label}"]
    if serving is not None:
        lines += [f"serve it: {serving}"]
    return "\n".join(lines)


def exported_lines(record: ExportRecord) -> list[str]:
    """Return the section of a model card, Markdown lines."""
    lines = [
        "Files of the same model in `exports/` of the run's folder, beside the original: time of "
        "a call and how many times faster it is, the median of some rounds and their range.",
        *("", *_table(record, "Variants").markdown().splitlines(), ""),
    ]
    lines += [f"- {name} is not available: {reason}." for name, reason in record.missing.items()]
    return [*lines, f"- {_recommendation(record)}."]


def with_exported(card: str, record: ExportRecord) -> str:
    """Return a model card with the section on exported variants, in the place of an earlier one."""
    sections = [
        one
        for one in re.split(r"^(?=## )", card, flags=re.MULTILINE)
        if not one.startswith(f"## {EXPORTED}\n")
    ]
    before = (at for at, one in enumerate(sections) if one.startswith(f"## {_NEXT}\n"))
    new = "\n".join([f"## {EXPORTED}", "", *exported_lines(record), "", ""])
    sections.insert(next(before, len(sections)), new)
    return "".join(sections)


def _table(record: ExportRecord, name: str) -> Table:
    sizes = list(record.variants[0].milliseconds)
    headers = ["variant", "size"]
    for size in sizes:
        headers += [counted(size, "picture"), "times faster"]
    equal = _EQUAL_PIXELS if record.of_masks else _EQUAL_LABELS
    headers += ["logits differ by", equal, metric_name(record.metric)]
    pictures = "validation" if record.part == "val" else "training"
    return Table(
        f"{name} on {record.pictures:,} {pictures} pictures, {counted(record.threads, 'thread')}",
        tuple(headers),
        tuple(_variant_cells(variant, record) for variant in record.variants),
        frozenset(range(1, len(headers))),
    )


def _variant_cells(variant: VariantRecord, record: ExportRecord) -> tuple[str, ...]:
    cells = [variant.name, f"{variant.size_mb:.1f} MB"]
    for size, milliseconds in variant.milliseconds.items():
        median, low, high = variant.speedup[size]
        cells += [f"{milliseconds:.3g} ms", f"{median:.2f} ({low:.2f} to {high:.2f})"]
    equal = percent(variant.equal_labels, _DIGITS)
    return (*cells, f"{variant.largest_difference:.2g}", equal, _figure(variant, record))


def _figure(variant: VariantRecord, record: ExportRecord) -> str:
    """Return the figure of a variant, and what it differs by from the original's."""
    figure, original = variant.figure, record.variants[0].figure
    text = metric_text(record.metric, figure)
    if figure is None or original is None or variant is record.variants[0]:
        return text
    return f"{text} ({change_text(record.metric, figure - original, _DIGITS)})"


def _certainty(record: ExportRecord) -> str:
    """Return the 95 % interval of the equal labels of what is recommended; nothing of masks."""
    if record.of_masks:
        return ""
    (equal,) = (one.equal_labels for one in record.variants if one.name == record.recommended)
    low, high = wilson_interval(round(equal * record.pictures), record.pictures)
    ends = " to ".join(fixed(100 * end, _DIGITS) for end in (low, high))
    return f" (95 % interval of all pictures: {ends})"


def _recommendation(record: ExportRecord) -> str:
    equal = f"{100 * record.least_equal:g} % {_EQUAL_LABELS}"
    if record.of_masks:
        below = 100 - 100 * record.least_equal
        equal = (
            f"{100 * record.least_equal:g} % {_EQUAL_PIXELS} and a mean IoU within "
            f"{below:.3g} points"
        )
    within = f"with at least {equal}"
    if record.recommended is None:
        text = f"recommended: the run as it is, no variant {within} is faster"
    else:
        text = f"recommended: {record.recommended}, the fastest {within}{_certainty(record)}"
    if record.chosen == record.recommended:
        return text
    return f"{text}; chosen: {record.chosen or 'the run as it is'}"
